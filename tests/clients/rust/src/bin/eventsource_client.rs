use clients::{arguments, complain, deliver};
use eventsource_client::{Client, ClientBuilder, SSE};
use futures::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (url, saved_id) = arguments();
    let mut builder = ClientBuilder::for_url(&url).expect("an address");
    if let Some(id) = saved_id {
        builder = builder.last_event_id(id);
    }
    let client = builder.build_http();
    let mut stream = client.stream();
    while let Some(event) = stream.next().await {
        match event {
            Ok(SSE::Event(event)) => deliver(
                &event.event_type,
                &event.data,
                event.id.as_deref().unwrap_or(""),
            ),
            Ok(_) => {}
            // It connects again, though its example stops here.
            Err(error) => complain(error),
        }
    }
}
