//! The members that etcd knew, out of the JSON in which it keeps them.

use std::collections::BTreeMap;

use cairn_engine::cluster::{Cluster, Record};
use cairn_engine::config::Member;
use cairn_engine::ids::MemberId;
use cairn_engine::import::Replayed;
use serde_json::Value;

/// The members as the log leaves them; `None` if one of them is not described.
pub(super) fn cluster(replayed: &Replayed) -> Option<Cluster> {
    let mut records = BTreeMap::new();
    let kept = replayed.imported.members.iter().map(|(_, json)| json);
    let told = replayed.told.iter().map(|(_, json)| json);
    for json in kept.chain(told) {
        let Ok(value) = serde_json::from_slice::<Value>(json) else { continue };
        let Some(id) = value["id"].as_u64() else { continue };
        let record: &mut Record = records.entry(MemberId(id)).or_default();
        record.id = id;
        // A promotion says nothing about URLs.
        for (kept, name) in
            [(&mut record.peer_urls, "peerURLs"), (&mut record.client_urls, "clientURLs")]
        {
            let urls = value[name].as_array().map(Vec::as_slice).unwrap_or_default();
            let urls: Vec<String> =
                urls.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if !urls.is_empty() {
                *kept = urls;
                kept.sort();
            }
        }
        if let Some(name) = value["name"].as_str().filter(|name| !name.is_empty()) {
            name.clone_into(&mut record.name);
        }
    }
    let members: Option<Vec<Record>> =
        replayed.members.iter().map(|id| records.remove(id)).collect();
    Some(Cluster::new(members?))
}

/// The same, for the directory to remember.
pub(super) fn configured(cluster: &Cluster) -> Vec<Member> {
    let member = |record: &Record| Member {
        id: MemberId(record.id),
        name: record.name.clone(),
        peer_urls: record.peer_urls.clone(),
        client_urls: Vec::new(),
    };
    cluster.records().map(member).collect()
}
