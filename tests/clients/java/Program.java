import java.nio.charset.StandardCharsets;

/** What the programs have in common: what they print. */
class Program {
    /** Prints what the library delivered. */
    static synchronized void deliver(String event, String data, String id) {
        String line = "{\"event\":" + json(event) + ",\"data\":" + json(data) + ",\"id\":" + json(id) + "}\n";
        System.out.writeBytes(line.getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }

    static void complain(Throwable error) {
        System.err.println(error);
    }

    private static String json(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char each : (text == null ? "" : text).toCharArray()) {
            if (each == '"' || each == '\\') quoted.append('\\').append(each);
            else if (each < ' ' || Character.isSurrogate(each)) quoted.append(String.format("\\u%04x", (int) each));
            else quoted.append(each);
        }
        return quoted.append('"').toString();
    }
}
