// Addresses: what is in the hash, and names that have any characters.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventRoute, eventsRoute, newEventRoute, routeOf } from "../../src/broker/console/router.js";

test("a name of any characters comes back from its address", () => {
  for (const name of ["sale", "orders/7", "a?b#c", "100%", "%2F", "é/☃", " ", "a b+c", "..", "$x", "\u202egnp"]) {
    const route = routeOf(eventRoute(name, "history"));
    assert.deepEqual([route.name, route.params], ["event", [name, "history"]]);
    assert.deepEqual(routeOf(eventRoute(name)).params, [name]);
  }
  assert.deepEqual(routeOf(eventRoute()).params, []);
  assert.equal(newEventRoute(""), "#/event");
  assert.equal(routeOf(newEventRoute("a b/&é")).query.get("name"), "a b/&é");
});

test("the table's address has what the table shows", () => {
  const { name, query } = routeOf(eventsRoute({ under: "a&b/", search: "50% #", order: "name", at: "" }));
  assert.deepEqual([name, query.get("under"), query.get("search"), query.get("order"), query.get("at")], ["events", "a&b/", "50% #", "name", null]);
});

test("an address that somebody has typed is no error", () => {
  assert.deepEqual(routeOf("#/event/100%").params, ["100%"]);
  assert.equal(routeOf("").name, "");
  assert.equal(routeOf("#schedule").name, "schedule");
});
