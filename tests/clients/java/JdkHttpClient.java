import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Iterator;
import java.util.stream.Stream;

/** The JDK's own client has no parser: these are its lines, taken as the standard says, in a loop of one's own. */
class JdkHttpClient {
    static String lastId = "", event = "", data = null;
    static long retry = 1_000;

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length > 1) lastId = arguments[1];
        HttpClient client = HttpClient.newHttpClient();
        while (true) {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0]));
            if (!lastId.isEmpty()) request.header("Last-Event-ID", lastId);
            event = "";
            data = null;
            try (Stream<String> lines = client.send(request.build(), BodyHandlers.ofLines()).body()) {
                for (Iterator<String> each = lines.iterator(); each.hasNext(); ) take(each.next());
            } catch (java.io.IOException | java.io.UncheckedIOException error) {
                Program.complain(error);
            }
            Thread.sleep(retry);
        }
    }

    static void take(String line) {
        if (line.isEmpty()) {
            if (data != null) Program.deliver(event, data, lastId);
            event = "";
            data = null;
            return;
        }
        int colon = line.indexOf(':');
        String name = colon < 0 ? line : line.substring(0, colon);
        String value = colon < 0 ? "" : line.substring(colon + 1).replaceFirst("^ ", "");
        switch (name) {
            case "id" -> lastId = value;
            case "event" -> event = value;
            case "data" -> data = data == null ? value : data + "\n" + value;
            case "retry" -> retry = Long.parseLong(value);
            default -> { }  // a comment, too
        }
    }
}
