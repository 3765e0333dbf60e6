//! What is refused before wasi-common sees it: numbers of a guest by which the host would allocate, and
//! files beyond the limit.

use wasi_common::snapshots::preview_1::types::Errno;

use crate::context::Wasi;

/// Most buffers of one call, as Linux has it.
const BUFFERS: u32 = 1024;

/// Most bytes of a path, as Linux has it.
const PATH: u32 = 4096;

/// Most things to wait for at once.
const SUBSCRIPTIONS: u32 = 4096;

pub(crate) type Checked = Result<(), Errno>;

pub(crate) fn buffers(count: i32) -> Checked {
    within(count, BUFFERS, Errno::Inval)
}

pub(crate) fn path(len: i32) -> Checked {
    within(len, PATH, Errno::Nametoolong)
}

pub(crate) fn paths(first: i32, second: i32) -> Checked {
    path(first)?;
    path(second)
}

pub(crate) fn subscriptions(count: i32) -> Checked {
    within(count, SUBSCRIPTIONS, Errno::Inval)
}

fn within(given: i32, most: u32, otherwise: Errno) -> Checked {
    if given.cast_unsigned() <= most { Ok(()) } else { Err(otherwise) }
}

impl Wasi {
    /// Whether one more file may be opened.
    pub(crate) fn may_open(&self) -> Checked {
        if self.open < self.most_open { Ok(()) } else { Err(Errno::Mfile) }
    }

    /// There are no sockets: what is open is none.
    pub(crate) fn no_socket(&self, fd: i32) -> Errno {
        let is_open = self.context.table().contains_key(fd.cast_unsigned());
        if is_open { Errno::Notsock } else { Errno::Badf }
    }
}
