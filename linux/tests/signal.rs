//! Signals by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use linux::signal::Signal;
use proptest::prelude::*;

#[test]
fn names_are_those_of_kill() {
    for (text, number) in [
        ("SIGTERM", 15),
        ("TERM", 15),
        ("term", 15),
        ("15", 15),
        ("SIGIOT", 6),
        ("poll", 29),
        ("SIGRTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmin+3", 37),
        ("RTMAX", 64),
        ("SIGRTMAX-1", 63),
    ] {
        assert_eq!(text.parse::<Signal>().unwrap().as_raw(), number, "{text}");
    }
}

#[test]
fn nonsense_is_refused_by_name() {
    for text in [
        "",
        "0",
        "65",
        "-1",
        "+15",
        "SIG",
        "SIGSIGTERM",
        "SIGRTMIN+31",
        "RTMIN-1",
        "RTMAX+1",
        "RTMIN+",
        "RTMIN++1",
        "RTMIN+999",
    ] {
        let error = text.parse::<Signal>().unwrap_err();
        assert_eq!(error.to_string(), format!("unknown signal {text:?}"));
    }
}

#[test]
fn what_cannot_or_must_not_be_forwarded_is_not() {
    let all: Vec<Signal> = Signal::forwardable().collect();
    for signal in [Signal::KILL, Signal::STOP, Signal::CHLD, Signal::SEGV] {
        assert!(!all.contains(&signal), "{signal}");
    }
    for signal in
        [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::WINCH, Signal::from_raw(37).unwrap()]
    {
        assert!(all.contains(&signal), "{signal}");
    }
}

proptest! {
    #[test]
    fn every_signal_reads_back(number in 1_i32..=64) {
        let signal = Signal::from_raw(number).unwrap();
        prop_assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
    }
}
