import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createBroker } from "zerocode-broker";
import { BrokerProvider } from "zerocode-broker/react";
import { Enter } from "./Enter";
import { Profile } from "./Profile";
import "../../plain-form/style.css";

// Each window is a user of its own, so that two windows of one browser are two people.
const broker = createBroker(undefined, { storage: "session" });

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <BrokerProvider broker={broker}>
      <Profile>
        <Enter />
      </Profile>
    </BrokerProvider>
  </StrictMode>,
);
