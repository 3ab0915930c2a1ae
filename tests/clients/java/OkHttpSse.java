import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.sse.EventSource;
import okhttp3.sse.EventSourceListener;
import okhttp3.sse.EventSources;

/** okhttp-sse reads one response: to connect again is its user's part. It does not tell what `retry:` said. */
class OkHttpSse {
    static volatile String lastId = "";

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length > 1) lastId = arguments[1];
        OkHttpClient client = new OkHttpClient.Builder().readTimeout(Duration.ofSeconds(30)).build();
        while (true) {
            Request.Builder request = new Request.Builder().url(arguments[0]);
            if (!lastId.isEmpty()) request.header("Last-Event-ID", lastId);
            CountDownLatch over = new CountDownLatch(1);
            EventSources.createFactory(client).newEventSource(request.build(), new EventSourceListener() {
                @Override
                public void onEvent(EventSource source, String id, String event, String data) {
                    Program.deliver(event, data, id);
                    if (id != null) lastId = id;
                }

                @Override
                public void onClosed(EventSource source) {
                    over.countDown();
                }

                @Override
                public void onFailure(EventSource source, Throwable error, Response response) {
                    if (error != null) Program.complain(error);
                    over.countDown();
                }
            });
            over.await();
            Thread.sleep(500);
        }
    }
}
