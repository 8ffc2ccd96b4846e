//! A member's URL, as far as dialing needs it.

use core::fmt;
use std::path::PathBuf;

/// Where a member is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerUrl {
    pub(super) is_tls: bool,
    pub(super) place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    /// What stands in the replicated state need not be a URL.
    Unknown(String),
}

impl PeerUrl {
    /// Reads `http://host:port`, `https://…`, `unix://path` or `unixs://…`. Anything else is kept as it is: it cannot be
    /// dialed, and saying so at each attempt is of more use than to forget it.
    pub(super) fn parse(text: &str) -> Self {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("", text));
        let (is_tls, is_unix) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => return Self { is_tls: false, place: Place::Unknown(text.to_owned()) },
        };
        let place = if is_unix && !rest.is_empty() {
            Place::Unix(PathBuf::from(rest))
        } else {
            host_port(rest).unwrap_or_else(|| Place::Unknown(text.to_owned()))
        };
        Self { is_tls, place }
    }

    /// What a certificate must be for.
    pub(super) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp { host, .. } => host,
            Place::Unix(_) | Place::Unknown(_) => "",
        }
    }
}

fn host_port(rest: &str) -> Option<Place> {
    let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() || bare.contains(['/', '[', ']']) {
        return None;
    }
    Some(Place::Tcp { host: bare.to_owned(), port: port.parse().ok()? })
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = if self.is_tls { "s" } else { "" };
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => {
                write!(f, "http{secure}://[{host}]:{port}")
            }
            Place::Tcp { host, port } => write!(f, "http{secure}://{host}:{port}"),
            Place::Unix(path) => write!(f, "unix{secure}://{}", path.display()),
            Place::Unknown(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_again() {
        for text in [
            "http://10.0.0.1:2380",
            "https://node-1.example:2380",
            "http://[::1]:2380",
            "unix:///run/cairn.sock",
            "unixs://local:1",
        ] {
            let url = PeerUrl::parse(text);
            assert_eq!(url.to_string(), text);
            assert!(!matches!(url.place, Place::Unknown(_)), "{text}");
        }
        let url = PeerUrl::parse("https://[::1]:2380/");
        assert_eq!((url.host(), url.is_tls), ("::1", true));
    }

    #[test]
    fn what_is_no_url_is_kept_as_it_is() {
        for text in
            ["", "ftp://a:1", "http://", "http://a", "http://:1", "http://a:x", "http://a/b:1"]
        {
            let url = PeerUrl::parse(text);
            assert_eq!(url.place, Place::Unknown(text.to_owned()), "{text}");
        }
    }
}
