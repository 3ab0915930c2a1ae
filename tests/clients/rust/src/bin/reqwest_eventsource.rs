use clients::{arguments, complain, deliver};
use futures::StreamExt;
use reqwest_eventsource::{Event, EventSource};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (url, saved_id) = arguments();
    let mut request = reqwest::Client::new().get(url);
    if let Some(id) = saved_id {
        request = request.header("Last-Event-ID", id);
    }
    let mut source = EventSource::new(request).expect("a request without a body");
    while let Some(event) = source.next().await {
        match event {
            Ok(Event::Open) => {}
            Ok(Event::Message(message)) => deliver(&message.event, &message.data, &message.id),
            // It connects again unless it is closed here, as its example does.
            Err(error) => complain(error),
        }
    }
}
