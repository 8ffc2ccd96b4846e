//! What others say when a member looks for them, and where they say they are.

use cairn_server::config::url::Url;
use cairn_server::discovery;
use cairn_server::join::Told;

/// Reads the answer to "who are the members?", of whoever listens where a member should.
pub fn members_answer(data: &[u8]) {
    let told = match Told::parse(data) {
        Ok(told) => told,
        Err(why) => return assert!(!why.is_empty()),
    };
    for (id, urls) in &told.members {
        let mut urls = urls.clone();
        urls.sort();
        let identity = told.identity(&urls).expect("it is among them");
        assert_eq!(identity.cluster, told.cluster);
        let is_it = |(other, others): &(cairn_engine::MemberId, Vec<String>)| {
            let mut others = others.clone();
            others.sort();
            *other == identity.id && others == urls
        };
        assert!(identity.id == *id || told.members.iter().any(is_it));
    }
    assert!(told.identity(&["http://nobody.is.here:1".to_owned()]).is_none());
}

/// Reads a packet as DNS's answer to the question that it says it answers, and to another one.
pub fn dns_answer(data: &[u8]) {
    let [high, low, ..] = data else { return };
    let id = u16::from_be_bytes([*high, *low]);
    match discovery::read_answer(id, data) {
        Ok(Some(places)) => assert!(places.len() <= data.len() / 10, "each takes some bytes"),
        Ok(None) => assert!(data[2] & 2 == 2, "it says that it was cut off"),
        Err(why) => assert!(!why.is_empty()),
    }
    assert!(discovery::read_answer(!id, data).is_err(), "it answers another question");
}

/// Reads URLs, as members and flags say where they are.
pub fn urls(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    match Url::parse_list(text) {
        Ok(urls) => {
            for url in urls {
                let again = Url::parse(url.as_str()).expect("what was read is read again");
                assert_eq!(again, url);
                assert!(url.host().is_some() || url.unix_path().is_some());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
