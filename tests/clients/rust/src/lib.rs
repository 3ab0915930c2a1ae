//! What the programs have in common: their arguments, and what they print.

use std::fmt::Display;

/// The stream's address, and the id to resume from, if there is one.
pub fn arguments() -> (String, Option<String>) {
    let mut arguments = std::env::args().skip(1);
    (arguments.next().expect("an address"), arguments.next())
}

/// Prints what the library delivered.
pub fn deliver(event: &str, data: &str, id: &str) {
    println!(
        "{}",
        serde_json::json!({"event": event, "data": data, "id": id})
    );
}

pub fn complain(error: impl Display) {
    eprintln!("{error}");
}
