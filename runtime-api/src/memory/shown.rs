//! The pages of one guest that show images, and what becomes of them.

use std::io;
use std::ops::Range;

use crate::Result;
use crate::memory::image::Image;
use crate::memory::mapping::{self, ImageMapping, make_zero};
use crate::memory::segment::LinearMemories;
use crate::memory::space::lends_pages;

/// Pages of a guest's linear memories, by their index in the engine, that show images.
#[derive(Debug, Default)]
pub(crate) struct Shown(Vec<Pages>);

/// Pages of one memory, next to each other, and the image that they show. Some may have been written to.
#[derive(Debug)]
struct Pages {
    memory: usize,
    range: Range<usize>,
    /// Kept, since its bytes are there as long as they are mapped.
    _image: Image,
    _mapping: ImageMapping,
}

impl Shown {
    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|pages| pages.range.len() as u64).sum()
    }

    /// Forgets all, as the guest's memories are about to go.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Gives a range of a memory the bytes of an image from `offset` on: whole pages show it if `may_map` and the
    /// guest lends its pages, other bytes are copied. Tells how many bytes show it. Both have the range.
    ///
    /// # Errors
    ///
    /// The errors of [`Image::read_at`].
    pub(crate) fn write(
        &mut self,
        guest: &mut dyn LinearMemories,
        (memory, range): (usize, Range<usize>),
        (image, offset): (&Image, u64),
        may_map: bool,
    ) -> Result<u64> {
        let empty = range.start..range.start;
        let pages = match may_map && lends_pages(guest, memory) {
            true => self.map(guest, (memory, &range), (image, offset)).unwrap_or(empty),
            false => empty,
        };
        for part in [range.start..pages.start, pages.end..range.end] {
            let skip = (part.start - range.start) as u64;
            image.read_at(offset + skip, &mut guest.linear_memory_mut(memory)[part])?;
        }
        Ok(pages.len() as u64)
    }

    /// Maps the pages that lie in a range whole; none if there are none, or they cannot be mapped.
    fn map(
        &mut self,
        guest: &mut dyn LinearMemories,
        (memory, range): (usize, &Range<usize>),
        (image, offset): (&Image, u64),
    ) -> Option<Range<usize>> {
        let lent = guest.whole_pages(memory)?;
        let pages = mapping::image_pages(&lent, range, offset)?;
        let taken = ImageMapping::take()?;
        let start = offset + (pages.start - range.start) as u64;
        if let Err(error) = mapping::map_image(lent, pages.clone(), image, start) {
            tracing::debug!(bytes = pages.len(), %error, "an image cannot be mapped; copying instead");
            return None;
        }
        self.forget(memory, &pages);
        let (range, image) = (pages.clone(), image.clone());
        self.0.push(Pages { memory, range, _image: image, _mapping: taken });
        Some(pages)
    }

    /// Makes a range of a memory zero, so that none of it shows an image any more. Other bytes of the pages that it
    /// touches stay as they are.
    ///
    /// # Errors
    ///
    /// What the operating system says. Some of the range is then as it was.
    pub(crate) fn release(
        &mut self,
        guest: &mut dyn LinearMemories,
        memory: usize,
        range: &Range<usize>,
    ) -> io::Result<()> {
        let touched = mapping::touched_pages(range);
        let of_memory = self.0.iter().filter(|pages| pages.memory == memory);
        let parts: Vec<_> = of_memory
            .map(|pages| pages.range.start.max(touched.start)..pages.range.end.min(touched.end))
            .filter(|part| !part.is_empty())
            .collect();
        for part in parts {
            let edges =
                [part.start..range.start.max(part.start), range.end.min(part.end)..part.end];
            let kept = edges.clone().map(|edge| guest.linear_memory(memory)[edge].to_vec());
            let lent = guest.whole_pages(memory);
            let lent =
                lent.ok_or_else(|| io::Error::other("the engine lends no pages any more"))?;
            mapping::unmap_image(lent, part.clone())?;
            let bytes = guest.linear_memory_mut(memory);
            for (edge, kept) in edges.into_iter().zip(kept) {
                bytes[edge].copy_from_slice(&kept);
            }
            self.forget(memory, &part);
        }
        make_zero(&mut guest.linear_memory_mut(memory)[range.clone()]);
        Ok(())
    }

    /// Forgets pages that show no image, or another one. What is cut in the middle stays as it is, and counts as
    /// if it still showed one.
    fn forget(&mut self, memory: usize, gone: &Range<usize>) {
        for pages in self.0.iter_mut().filter(|pages| pages.memory == memory) {
            let Range { start, end } = pages.range;
            let gone = gone.start.max(start)..gone.end.min(end);
            if gone.is_empty() {
            } else if gone.start == start {
                pages.range.start = gone.end;
            } else if gone.end == end {
                pages.range.end = gone.start;
            }
        }
        self.0.retain(|pages| !pages.range.is_empty());
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::memory::image::{ImageBuilder, ImageRoom};
    use crate::memory::mapping::{HostPages, WholePages};

    const BYTES: usize = 1 << 20;

    /// Memories of a guest whose pages are lent, or not.
    struct Guest(HostPages, bool);

    impl LinearMemories for Guest {
        fn linear_memory(&self, _: usize) -> &[u8] {
            self.0.bytes()
        }

        fn linear_memory_mut(&mut self, _: usize) -> &mut [u8] {
            self.0.bytes_mut()
        }

        fn whole_pages(&mut self, _: usize) -> Option<WholePages<'_>> {
            self.1.then(|| self.0.whole())
        }
    }

    fn guest(lends: bool) -> Guest {
        let mut guest = Guest(HostPages::new(BYTES).unwrap(), lends);
        guest.0.bytes_mut().fill(9);
        guest
    }

    /// Bytes that tell their places, as an image, for a range of a memory.
    fn image(range: &Range<usize>, room: &ImageRoom) -> (Image, u64) {
        let mut builder = ImageBuilder::new(room).unwrap();
        builder.begin(3 * 4096 + 5);
        builder.write(&[1]).unwrap();
        let start = builder.begin(range.start as u64);
        let bytes: Vec<_> = range.clone().map(pattern).collect();
        bytes.chunks(1000).for_each(|piece| builder.write(piece).unwrap());
        (builder.finish().unwrap(), start)
    }

    fn pattern(at: usize) -> u8 {
        u8::try_from(at % 251).unwrap() | 16
    }

    /// Checks all bytes of a guest: zeros, the pattern, or what was there.
    fn check(guest: &Guest, zeros: &Range<usize>, pattern_in: &Range<usize>) {
        for (at, byte) in guest.0.bytes().iter().enumerate() {
            let expected = match at {
                _ if zeros.contains(&at) => 0,
                _ if pattern_in.contains(&at) => pattern(at),
                _ => 9,
            };
            assert_eq!(*byte, expected, "{at}");
        }
    }

    #[test]
    fn guests_share_until_they_write() {
        let (range, room) = (70_001..400_003, ImageRoom::default());
        let (image, start) = image(&range, &room);
        let mut guests = [guest(true), guest(true), guest(false)];
        let mut shown = [Shown::default(), Shown::default(), Shown::default()];
        for (guest, shown) in guests.iter_mut().zip(&mut shown) {
            let written = shown.write(guest, (0, range.clone()), (&image, start), true).unwrap();
            assert_eq!(written, shown.bytes());
            check(guest, &(0..0), &range);
        }
        let whole = range.start.next_multiple_of(4096)..range.end / 4096 * 4096;
        assert_eq!(shown.each_ref().map(Shown::bytes), [whole.len() as u64, whole.len() as u64, 0]);
        // What one writes is its own.
        guests[0].0.bytes_mut()[200_000] = 0;
        check(&guests[0], &(200_000..200_001), &range);
        check(&guests[1], &(0..0), &range);
        // The image lives as long as it is shown.
        drop(image);
        assert!(room.used() > 0);
        let gone = 300_000..range.end;
        for (guest, shown) in guests.iter_mut().zip(&mut shown).skip(1) {
            shown.release(guest, 0, &gone).unwrap();
            check(guest, &gone, &range);
        }
        assert_eq!(shown[1].bytes(), (300_000 / 4096 * 4096 - whole.start) as u64);
        shown[1].release(&mut guests[1], 0, &range).unwrap();
        check(&guests[1], &range, &range);
        assert_eq!(shown[1].bytes(), 0);
        check(&guests[0], &(200_000..200_001), &range);
        shown[0].clear();
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn an_image_over_another_one_takes_its_place() {
        let room = ImageRoom::default();
        let (mut guest, mut shown) = (guest(true), Shown::default());
        let (first, second) = (8192..100_000, 8192..200_000);
        for range in [&first, &second, &first] {
            let (image, start) = image(range, &room);
            shown.write(&mut guest, (0, range.clone()), (&image, start), true).unwrap();
        }
        check(&guest, &(0..0), &second);
        let whole = (second.end / 4096 * 4096 - second.start) as u64;
        assert_eq!(shown.bytes(), whole);
        // Two are left: the first is in parts of two images.
        assert!(room.used() < 2 * BYTES as u64);
        shown.release(&mut guest, 0, &(0..BYTES)).unwrap();
        check(&guest, &(0..BYTES), &(0..0));
        assert_eq!((shown.bytes(), room.used()), (0, 0));
    }

    /// Where mapping fails, or pages do not lie alike, bytes are copied.
    #[test]
    fn what_cannot_be_mapped_is_copied() {
        let range = 10_000..90_000;
        let (mut guest, mut shown) = (guest(true), Shown::default());
        let (right, start) = image(&range, &ImageRoom::default());
        // Not alike: one byte less.
        let less = range.start..range.end - 1;
        let moved = shown.write(&mut guest, (0, less.clone()), (&right, start + 1), true).unwrap();
        assert_eq!((moved, shown.bytes()), (0, 0));
        assert!(
            guest.0.bytes()[less.clone()]
                .iter()
                .zip(less)
                .all(|(byte, at)| *byte == pattern(at + 1))
        );
        // A file that can be read, as zeros, and not mapped.
        let file = std::fs::File::open("/dev/full").unwrap();
        let full = Image::broken(file, 1 << 20);
        guest.0.bytes_mut().fill(9);
        let moved = shown.write(&mut guest, (0, range.clone()), (&full, 10_000), true).unwrap();
        assert_eq!((moved, shown.bytes()), (0, 0));
        check(&guest, &range, &(0..0));
        shown.write(&mut guest, (0, range.clone()), (&right, start), true).unwrap();
        check(&guest, &(0..0), &range);
    }
}
