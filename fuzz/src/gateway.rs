//! The JSON gateway: a body becomes messages or is refused, and what was read is printed so that it reads the same again.

use cairn_server::gateway::messages::Objects;
use cairn_server::gateway::schema::METHODS;
use cairn_server::gateway::{read, write};

use crate::choices::Choices;

/// Reads the body of a call: the first byte is the method, the next four say where the body is cut.
pub fn gateway_json(data: &[u8]) {
    let mut choices = Choices(data);
    let (_, input, _) = METHODS[usize::from(choices.byte()) % METHODS.len()];
    let cuts: Vec<usize> = choices.bytes(4).iter().map(|byte| usize::from(*byte)).collect();
    let body = choices.0;
    let whole = objects(&[body]);
    let (mut rest, mut parts) = (body, Vec::new());
    for cut in cuts {
        let (part, next) = rest.split_at(cut.min(rest.len()));
        parts.push(part);
        rest = next;
    }
    parts.push(rest);
    assert_eq!(objects(&parts), whole, "wherever it is cut");
    for object in whole.0 {
        let Ok(message) = read::read(input, &object) else { continue };
        let (mut printed, mut again) = (Vec::new(), Vec::new());
        write::write(input, &message, &mut printed);
        let message = read::read(input, &printed).expect("what was printed is read");
        write::write(input, &message, &mut again);
        assert_eq!(printed, again);
    }
}

/// The objects of a body, and whether it ends between two of them.
fn objects(parts: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut objects, mut found) = (Objects::new(1 << 20), Vec::new());
    for part in parts {
        objects.push(part);
        loop {
            match objects.cut() {
                Ok(Some(object)) => found.push(object.to_vec()),
                Ok(None) => break,
                Err(_) => return (found, false),
            }
        }
    }
    (found, objects.end().is_ok())
}
