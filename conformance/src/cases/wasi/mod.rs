//! WASI preview 1: the functions, and what they refuse.

mod files;
mod hostile;
mod probe;
mod process;
mod streams;

use crate::Case;
use crate::guest::{NOTHING, TIME_LIMIT};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "wasi/arguments",
        promise: "a guest gets its arguments and its environment byte for byte, and nothing of the host's",
        needs: NOTHING,
        run: process::arguments,
    },
    Case {
        name: "wasi/exit",
        promise: "proc_exit ends the program with its code, is no trap, and leaves the guest usable",
        needs: NOTHING,
        run: process::exit,
    },
    Case {
        name: "wasi/time",
        promise: "a fixed clock and a seed make a run reproducible, and waiting takes no time",
        needs: NOTHING,
        run: process::time,
    },
    Case {
        name: "wasi/waiting",
        promise: "a guest that waits is stopped by its time limit",
        needs: TIME_LIMIT,
        run: process::waiting,
    },
    Case {
        name: "wasi/refused",
        promise: "sockets, threads and signals are answered with the errors of the specification",
        needs: NOTHING,
        run: process::refused,
    },
    Case {
        name: "wasi/streams",
        promise: "standard input is read, and standard output and error are captured up to a limit",
        needs: NOTHING,
        run: streams::streams,
    },
    Case {
        name: "wasi/guests",
        promise: "guests with the same imports have contexts of their own",
        needs: NOTHING,
        run: streams::guests,
    },
    Case {
        name: "wasi/files",
        promise: "files are created, written, read, listed, renamed and removed",
        needs: NOTHING,
        run: files::files,
    },
    Case {
        name: "wasi/read_only",
        promise: "nothing changes in a directory that is read only",
        needs: NOTHING,
        run: files::read_only,
    },
    Case {
        name: "wasi/escapes",
        promise: "no path leads out of a directory: not through .., the root or a symbolic link",
        needs: NOTHING,
        run: files::escapes,
    },
    Case {
        name: "wasi/pipes",
        promise: "pipes, sockets and devices in a directory open at once or not at all, and waiting for one ends with the time limit",
        needs: TIME_LIMIT,
        run: files::pipes,
    },
    Case {
        name: "wasi/pointers",
        promise: "pointers and lengths out of the guest's memory end its call, and nothing else",
        needs: NOTHING,
        run: hostile::pointers,
    },
    Case {
        name: "wasi/limits",
        promise: "too many files, buffers, bytes of a path or things to wait for are refused",
        needs: NOTHING,
        run: hostile::limits,
    },
];
