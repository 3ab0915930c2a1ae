import com.launchdarkly.eventsource.ErrorStrategy;
import com.launchdarkly.eventsource.EventSource;
import com.launchdarkly.eventsource.FaultEvent;
import com.launchdarkly.eventsource.MessageEvent;
import com.launchdarkly.eventsource.StreamEvent;
import java.net.URI;

/** okhttp-eventsource connects again by itself if its error strategy says so. */
class OkHttpEventSource {
    public static void main(String[] arguments) {
        EventSource.Builder builder = new EventSource.Builder(URI.create(arguments[0]))
            .errorStrategy(ErrorStrategy.alwaysContinue());
        if (arguments.length > 1) builder.lastEventId(arguments[1]);
        EventSource source = builder.build();
        for (StreamEvent event : source.anyEvents()) {
            if (event instanceof MessageEvent message)
                Program.deliver(message.getEventName(), message.getData(), message.getLastEventId());
            else if (event instanceof FaultEvent fault) Program.complain(fault.getCause());
        }
    }
}
