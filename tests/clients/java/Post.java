import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * The JDK's own client as it comes: it prefers HTTP/2, so it offers to upgrade each connection in clear text. Signs up,
 * logs in, inserts, and inserts a batch, with each form of body; prints the status and the body of each answer.
 */
class Post {
    enum Form { WHOLE, IN_PIECES, IN_CHUNKS }

    static String base;

    public static void main(String[] arguments) throws Exception {
        base = arguments[0];
        for (Form form : Form.values())
            for (boolean expect : new boolean[] {false, true}) {
                HttpClient client = HttpClient.newHttpClient();
                // Once more on the same connection.
                for (int round = 0; round < 2; round++)
                    calls(client, form, expect, form + "-" + expect + "-" + round);
            }
    }

    static void calls(HttpClient client, Form form, boolean expect, String name) throws Exception {
        String credentials = "{\"username\":\"" + name + "\",\"password\":\"correct horse\"}";
        call(client, form, expect, "/users", "", credentials);
        String token = call(client, form, expect, "/login", "", credentials).replaceAll(".*\"jwt\":\"([^\"]*)\".*", "$1");
        String record = "{\"event\":\"jdk/" + name + "\",\"data\":\"" + "é".repeat(20_000) + "\"}";
        call(client, form, expect, "/insert", token, record);
        call(client, form, expect, "/insert", token, "[" + record + "," + record + "]");
    }

    static String call(HttpClient client, Form form, boolean expect, String path, String token, String body)
            throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(base + path))
            .header("Content-Type", "application/json")
            .expectContinue(expect)
            .POST(publisher(form, body.getBytes(StandardCharsets.UTF_8)));
        if (!token.isEmpty()) request.header("Authorization", "Bearer " + token);
        var answer = client.send(request.build(), BodyHandlers.ofString());
        System.out.println(path + " " + answer.statusCode() + " " + answer.body().strip());
        return answer.body().strip();
    }

    static BodyPublisher publisher(Form form, byte[] body) {
        if (form == Form.WHOLE) return BodyPublishers.ofByteArray(body);
        List<byte[]> pieces = new ArrayList<>();
        for (int start = 0; start < body.length; start += 1_000)
            pieces.add(java.util.Arrays.copyOfRange(body, start, Math.min(start + 1_000, body.length)));
        BodyPublisher chunked = BodyPublishers.ofByteArrays(pieces);
        return form == Form.IN_CHUNKS ? chunked : BodyPublishers.fromPublisher(chunked, body.length);
    }
}
