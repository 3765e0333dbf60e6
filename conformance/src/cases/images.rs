//! Images that several guests show, as forks of a sequence do: pages are shared until one of them writes.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, Error, Image, ImageBuilder, ImageRoom, Runtime, Value};

use crate::check::{equal, same_bytes};
use crate::guest::{self, NOTHING, PAGE_LEN};
use crate::{Case, Failure, Outcome};

const WAT: &str = r#"(module
    (memory (export "memory") 8 64)
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "fill") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

/// Where a guest shows it: not at the edge of a page, and neither is its end.
const ADDRESS: u64 = PAGE + 1000;
const LEN: usize = 3 * PAGE_LEN + 500;

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "images/apart",
        promise: "guests that show one image do not see what another one writes to it",
        needs: NOTHING,
        run: apart,
    },
    Case {
        name: "images/of_a_guest",
        promise: "an image of what a guest has computed is the same in another one, and stays when that guest goes on",
        needs: NOTHING,
        run: of_a_guest,
    },
    Case {
        name: "images/around",
        promise: "an image changes no byte beside its range, also where it is taken away by another one",
        needs: NOTHING,
        run: around,
    },
    Case {
        name: "images/room",
        promise: "the bytes of an image count as long as a guest shows it, and not longer",
        needs: NOTHING,
        run: room,
    },
];

/// An image of these bytes, and where it begins; none where the system has no such memory.
fn image(room: &ImageRoom, bytes: &[u8]) -> Result<Option<(Image, u64)>, Failure> {
    let made = ImageBuilder::new(room).and_then(|mut builder| {
        let start = builder.begin(ADDRESS);
        builder.write(bytes)?;
        Ok((builder.finish()?, start))
    });
    match made {
        Ok(made) => Ok(Some(made)),
        Err(Error::Io { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Shows an image, or copies its bytes where there is none, as a session does.
fn show(
    guest: &mut dyn Runtime,
    image: Option<&(Image, u64)>,
    bytes: &[u8],
) -> Result<(), Failure> {
    match image {
        Some((image, start)) => {
            guest.write_image(0, ADDRESS, image, *start..*start + bytes.len() as u64)?;
        }
        None => guest.write_memory(0, ADDRESS, bytes)?,
    }
    Ok(())
}

fn shown(guest: &dyn Runtime) -> Result<&[u8], Failure> {
    let start = usize::try_from(ADDRESS)?;
    Ok(&guest.memory()[start..start + LEN])
}

/// Guests that show one image do not see what another one writes to it.
pub fn apart(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(11, LEN);
    let image = image(&ImageRoom::default(), &bytes)?;
    let mut guests = Vec::new();
    for _ in 0..4 {
        let mut guest = guest::start(engine, WAT)?;
        show(&mut *guest, image.as_ref(), &bytes)?;
        same_bytes("as shown", shown(&*guest)?, &bytes)?;
        guests.push(guest);
    }
    let mut expected = bytes.clone();
    // By the guest's stores, in each page of the image.
    for at in [0, 1, 4095, PAGE_LEN, 2 * PAGE_LEN + 7, LEN - 1] {
        let address = i32::try_from(ADDRESS)? + i32::try_from(at)?;
        let new = expected[at] ^ 0xff;
        guests[0].call("store", &[address.into(), i32::from(new).into()])?;
        expected[at] = new;
        equal(
            "read back",
            guests[0].call("load", &[address.into()])?,
            vec![Value::I32(i32::from(new))],
        )?;
        let old = guests[1].call("load", &[address.into()])?;
        equal("in another guest", old, vec![Value::I32(i32::from(bytes[at]))])?;
    }
    same_bytes("what was stored", shown(&*guests[0])?, &expected)?;
    // By its bulk instructions, and by the host.
    let [at, value, len] = [i32::try_from(ADDRESS)? + 100, 0x3c, 70_000].map(Value::I32);
    guests[1].call("fill", &[at, value, len])?;
    let mut filled = bytes.clone();
    filled[100..70_100].fill(0x3c);
    same_bytes("what was filled", shown(&*guests[1])?, &filled)?;
    guests[2].write_memory(0, ADDRESS + PAGE, b"by the host")?;
    let mut written = bytes.clone();
    written[PAGE_LEN..PAGE_LEN + 11].copy_from_slice(b"by the host");
    same_bytes("what the host wrote", shown(&*guests[2])?, &written)?;
    same_bytes("the one that wrote nothing", shown(&*guests[3])?, &bytes)?;
    // The image itself is as before.
    let mut later = guest::start(engine, WAT)?;
    show(&mut *later, image.as_ref(), &bytes)?;
    same_bytes("a later guest", shown(&*later)?, &bytes)?;
    same_bytes("still what was stored", shown(&*guests[0])?, &expected)
}

/// An image of what a guest has computed is the same in another one, and stays when that guest goes on.
pub fn of_a_guest(engine: &dyn Engine) -> Outcome {
    let mut first = guest::start(engine, WAT)?;
    let at = i32::try_from(ADDRESS)?;
    let len = i32::try_from(LEN)?;
    first.call("fill", &[at.into(), Value::I32(0x11), len.into()])?;
    first.call("store", &[(at + 5).into(), Value::I32(0x22)])?;
    let bytes = shown(&*first)?.to_vec();
    let image = image(&ImageRoom::default(), &bytes)?;
    // Both show it from now on.
    show(&mut *first, image.as_ref(), &bytes)?;
    let mut fork = guest::start(engine, WAT)?;
    show(&mut *fork, image.as_ref(), &bytes)?;
    first.call("store", &[(at + 6).into(), Value::I32(0x33)])?;
    fork.call("store", &[(at + 6).into(), Value::I32(0x44)])?;
    equal("the first one grows", fork.call("grow", &[Value::I32(8)])?, vec![Value::I32(8)])?;
    for (guest, new) in [(&first, 0x33), (&fork, 0x44)] {
        let mut expected = bytes.clone();
        expected[6] = new;
        same_bytes("behind the fork", shown(&**guest)?, &expected)?;
    }
    drop(first);
    let mut expected = bytes.clone();
    expected[6] = 0x44;
    same_bytes("the fork alone", shown(&*fork)?, &expected)
}

/// An image changes no byte beside its range, also where it is taken away by another one.
pub fn around(engine: &dyn Engine) -> Outcome {
    let room = ImageRoom::default();
    let mut guest = guest::start(engine, WAT)?;
    guest.memory_mut().fill(0x77);
    let mut expected = guest.memory().to_vec();
    let start = usize::try_from(ADDRESS)?;
    for seed in [1, 2, 3] {
        let bytes = guest::pattern(seed, LEN);
        show(&mut *guest, image(&room, &bytes)?.as_ref(), &bytes)?;
        expected[start..start + LEN].copy_from_slice(&bytes);
        same_bytes("the memory", guest.memory(), &expected)?;
        // A part of it is written over, across the edge.
        guest.write_memory(0, ADDRESS - 3, b"across")?;
        expected[start - 3..start + 3].copy_from_slice(b"across");
        same_bytes("the memory", guest.memory(), &expected)?;
    }
    Ok(())
}

/// The bytes of an image count as long as a guest shows it, and not longer.
pub fn room(engine: &dyn Engine) -> Outcome {
    let room = ImageRoom::default();
    let bytes = guest::pattern(7, LEN);
    let Some(made) = image(&room, &bytes)? else { return Ok(()) };
    let used = room.used();
    let mut guest = guest::start(engine, WAT)?;
    show(&mut *guest, Some(&made), &bytes)?;
    drop(made);
    same_bytes("without the image", shown(&*guest)?, &bytes)?;
    if engine.capabilities().mapping {
        equal("bytes while it is shown", room.used(), used)?;
    }
    drop(guest);
    equal("bytes when the guest is gone", room.used(), 0)
}
