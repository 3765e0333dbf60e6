//! What the output of a pip that failed means, and what to do about it.
//!
//! pip shows most failures of networks and disks as the trace of an exception in itself: the word
//! `ERROR: Exception:` and a hundred lines, the last of which says what happened.

use std::path::Path;
use std::process::ExitStatus;

/// A cause by what pip's output then has in it. Of several, the first one counts: behind a network
/// that fails, pip goes on to say that there is no such package.
struct Known {
    signs: &'static [&'static str],
    cause: &'static str,
    remedy: &'static str,
}

const FULL: &str = "the disk is full";

const KNOWN: [Known; 11] = [
    Known {
        signs: &[
            "No space left on device",
            "[Errno 28]",
            "Disk quota exceeded",
            "[Errno 122]",
            "not enough space on the disk",
            "File too large",
            "[Errno 27]",
        ],
        cause: FULL,
        remedy: "make room, or set POLYCHORD_CACHE to a folder on another disk",
    },
    Known {
        signs: &["ProxyError", "Cannot connect to proxy", "407 Proxy"],
        cause: "the proxy does not connect",
        remedy: "check HTTPS_PROXY and pip's setting `proxy`",
    },
    Known {
        signs: &["CERTIFICATE_VERIFY_FAILED", "SSLError", "SSLCertVerificationError", "SSL: "],
        cause: "there is no trusted connection to the package index",
        remedy: "check the clock and the certificates (PIP_CERT) of this machine",
    },
    Known {
        signs: &[
            "Connection reset",
            "ConnectionResetError",
            "Connection broken",
            "IncompleteRead",
            "RemoteDisconnected",
            "Connection aborted",
            "ConnectionAbortedError",
            "ProtocolError",
            "download was incomplete",
            "IncompleteDownloadError",
            "not enough bytes",
            "ChunkedEncodingError",
            "Broken pipe",
            "forcibly closed",
        ],
        cause: "the connection to the package index broke off",
        remedy: "try again",
    },
    Known {
        signs: &[
            "Name or service not known",
            "name resolution",
            "getaddrinfo failed",
            "nodename nor servname",
            "NameResolutionError",
            "Network is unreachable",
            "No route to host",
            "Connection refused",
            "NewConnectionError",
            "Failed to establish a new connection",
            "No address associated",
            "Network is down",
        ],
        cause: "there is no network, or the package index cannot be reached",
        remedy: "check the network, the proxy (HTTPS_PROXY), and PIP_INDEX_URL",
    },
    Known {
        signs: &["timed out", "TimeoutError", "ConnectTimeout", "ReadTimeout", "Timeout("],
        cause: "time-out: the package index took too long",
        remedy: "try again later, or set PIP_DEFAULT_TIMEOUT to more seconds",
    },
    Known {
        signs: &[
            "401 Client Error",
            "403 Client Error",
            "HTTP error 401",
            "HTTP error 403",
            "401 Error",
            "403 Error",
            "Unauthorized",
        ],
        cause: "the package index refuses access",
        remedy: "check the name and password in pip's configuration",
    },
    Known {
        signs: &[
            "Server Error",
            "HTTP error 5",
            "429 Client Error",
            "HTTP error 429",
            "too many 5",
            "Too Many Requests",
        ],
        cause: "the package index fails",
        remedy: "try again later",
    },
    Known {
        signs: &["DO NOT MATCH THE HASHES", "HashMismatch", "expected sha256"],
        cause: "other bytes came than the package index announced",
        remedy: "try again, and if it happens again ask those who run the index",
    },
    Known {
        signs: &["Permission denied", "[Errno 13]", "Read-only file system", "[Errno 30]"],
        cause: "pip may not write where it wants to",
        remedy: "check the permissions of the path that it names",
    },
    Known {
        signs: &[
            "No matching distribution",
            "Could not find a version",
            "404 Client Error",
            "HTTP error 404",
            "404 Not Found",
        ],
        cause: "the package index has no such package",
        remedy: "check that PIP_INDEX_URL names a complete index that can be reached",
    },
];

/// Says why pip failed: the cause if it is a known one, pip's own words, and what may help.
/// `free` is how much room is left in the folder that pip was told to use.
pub(super) fn explain(said: &str, status: ExitStatus, free: Option<(&Path, u64)>) -> String {
    if said.contains("No module named pip") {
        return "not installed".into();
    }
    let words = own_words(said);
    let Some(known) = KNOWN.iter().find(|known| known.is_in(said)) else {
        return if words.is_empty() { status.to_string() } else { format!("{status}: {words}") };
    };
    let room = match free {
        Some((folder, free)) if known.cause == FULL => {
            format!(" ({} MB are left at {})", free / 1_000_000, folder.display())
        }
        _ => String::new(),
    };
    // What shows the cause may be a warning above.
    let shows_cause = known.signs.iter().any(|sign| words.contains(sign));
    let words = match said.lines().rev().find(|line| known.is_in(line)) {
        Some(line) if !shows_cause => shortened(line.trim()),
        _ => words,
    };
    format!("{}{room}: {}. pip said ({status}): {words}", known.cause, known.remedy)
}

impl Known {
    fn is_in(&self, text: &str) -> bool {
        self.signs.iter().any(|sign| text.contains(sign))
    }
}

/// The last exception, or the last lines that pip calls errors, or else the last lines.
fn own_words(said: &str) -> String {
    const LINES: usize = 2;
    let exception = said.lines().rev().find(|line| is_exception(line));
    let mut lines: Vec<_> = match exception {
        Some(line) if said.contains("Traceback (most recent call last)") => vec![line],
        _ => {
            let is_error =
                |line: &&str| line.starts_with("ERROR") && line.trim() != "ERROR: Exception:";
            said.lines().rev().filter(is_error).take(LINES).collect()
        }
    };
    if lines.is_empty() {
        lines = said.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    }
    lines.reverse();
    shortened(&lines.join(" "))
}

/// Without addresses of objects, which differ each time, and without what a terminal would obey.
fn shortened(words: &str) -> String {
    const ADDRESS: &str = " object at 0x";
    let mut parts = words.split(ADDRESS);
    let mut text = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| text.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit())));
    text.chars().filter(|c| !c.is_control()).take(400).collect()
}

/// The last line of a trace: `package.module.Name: message`, with no space before the colon.
fn is_exception(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    is_name
        && last.starts_with(|c: char| c.is_ascii_uppercase())
        && last.chars().any(|c| c.is_ascii_lowercase())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn explained(said: &str) -> String {
        explain(said, ExitStatus::from_raw(2 << 8), Some((Path::new("/disk"), 3_500_000)))
    }

    fn trace(last: &str) -> String {
        format!(
            "Collecting pack==1\nERROR: Exception:\nTraceback (most recent call last):\n  \
             File \"x.py\", line 1, in f\n    raise Strange(\"x\")\n{last}\n"
        )
    }

    #[test]
    fn traces_are_explained() {
        for (last, cause) in [
            (
                "OSError: [Errno 28] No space left on device",
                "the disk is full (3 MB are left at /disk)",
            ),
            ("OSError: [Errno 122] Disk quota exceeded: 'x'", "the disk is full"),
            (
                "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='h', port=443): Read timed out.",
                "time-out",
            ),
            (
                "pip._vendor.urllib3.exceptions.ProtocolError: (\"Connection broken: ConnectionResetError(104, 'Connection reset by peer')\", 1)",
                "broke off",
            ),
            (
                "pip._vendor.urllib3.exceptions.ProtocolError: ('Connection broken: IncompleteRead(9 bytes read, 5 more expected)', 1)",
                "broke off",
            ),
            ("PermissionError: [Errno 13] Permission denied: '/x'", "may not write"),
        ] {
            let text = explained(&trace(last));
            assert!(text.starts_with(cause) || text.contains(cause), "{text}");
            assert!(text.contains(last.split(':').next().unwrap()), "{text}");
            assert!(!text.contains("ERROR: Exception:"), "{text}");
        }
        let unknown = explained(&trace("pip._internal.Strange: cause unknown: why"));
        assert_eq!(unknown, "exit status: 2: pip._internal.Strange: cause unknown: why");
    }

    #[test]
    fn a_network_that_fails_is_no_missing_package() {
        let end = "ERROR: Could not find a version that satisfies the requirement pack==1 (from \
                   versions: none)\nERROR: No matching distribution found for pack==1\n";
        for (warning, cause) in [
            (
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<x>: \
              Failed to establish a new connection: [Errno 111] Connection refused')': /simple/",
                "cannot be reached",
            ),
            (
                "WARNING: Retrying after connection broken by 'NameResolutionError(\"x: Failed to resolve \
              'h' ([Errno -3] Temporary failure in name resolution)\")': /simple/",
                "no network",
            ),
            (
                "WARNING: Retrying after connection broken by 'ConnectTimeoutError(<x>, 'Connection to h \
              timed out. (connect timeout=10.0)')': /simple/",
                "time-out",
            ),
            (
                "WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.')'",
                "the proxy",
            ),
            (
                "WARNING: Retrying after connection broken by 'SSLError(SSLCertVerificationError(1, \
              '[SSL: CERTIFICATE_VERIFY_FAILED]'))'",
                "trusted connection",
            ),
            ("", "has no such package"),
        ] {
            let text = explained(&format!("{warning}\n{end}"));
            assert!(text.contains(cause), "{text}");
            assert_eq!(text.contains("has no such package"), warning.is_empty(), "{text}");
        }
    }

    #[test]
    fn other_words_are_passed_on() {
        assert_eq!(explained(""), "exit status: 2");
        assert_eq!(
            explained("noise\nERROR: strange words\n"),
            "exit status: 2: ERROR: strange words"
        );
        assert_eq!(explained("a\nb\n\n"), "exit status: 2: a b");
        assert_eq!(explained("/usr/bin/python3: No module named pip"), "not installed");
        assert!(explained(&"x".repeat(9_000)).len() < 600);
        assert!(!explained("ERROR: \u{1b}]0;title\u{7}").contains('\u{1b}'));
        // The next pip says the same, and that is said once.
        let words = |at| explained(&format!("ERROR: strange <x object at 0x{at}> twice"));
        assert_eq!(words("7fd3f39b6950"), words("7f8b125cfbd0"));
        assert!(words("7f").ends_with("ERROR: strange <x> twice"), "{}", words("7f"));
    }
}
