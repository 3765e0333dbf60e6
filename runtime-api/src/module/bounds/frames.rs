//! How many locals each block assigns, or uses, counted in one pass over a function.

/// The blocks that are open, and when each local was touched last.
#[derive(Debug, Default)]
pub(super) struct Frames {
    open: Vec<Frame>,
    /// By local; 0 is never.
    touched: Vec<u64>,
    now: u64,
}

#[derive(Debug, Default)]
struct Frame {
    start: u64,
    /// The number of different locals that were touched within, counted so that the sum over a
    /// block and those within it is right: a local that an enclosing block has seen already is
    /// taken off there.
    locals: i64,
}

impl Frames {
    /// The frames of a function with `locals` locals, with the block that is its body.
    pub(super) fn new(locals: u32) -> Self {
        Self { open: vec![Frame::default()], touched: vec![0; locals as usize], now: 0 }
    }

    pub(super) fn enter(&mut self) {
        self.now += 1;
        self.open.push(Frame { start: self.now, locals: 0 });
    }

    /// Ends the innermost block; how many locals were touched in it.
    pub(super) fn leave(&mut self) -> u64 {
        let Some(frame) = self.open.pop() else { return 0 };
        if let Some(above) = self.open.last_mut() {
            above.locals += frame.locals;
        }
        u64::try_from(frame.locals).unwrap_or(0)
    }

    pub(super) fn touch(&mut self, local: u32) {
        // One that is out of range is the validator's to refuse.
        let Some(last) = self.touched.get_mut(local as usize) else { return };
        self.now += 1;
        let before = std::mem::replace(last, self.now);
        // The blocks that were open when it was touched before have counted it.
        let counted = match before {
            0 => 0,
            _ => self.open.partition_point(|frame| frame.start < before),
        };
        if let Some(innermost) = self.open.last_mut() {
            innermost.locals += 1;
        }
        if let Some(frame) = counted.checked_sub(1).and_then(|at| self.open.get_mut(at)) {
            frame.locals -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the definition says, for the same events.
    fn naive(events: &[Event]) -> Vec<u64> {
        let (mut open, mut left) = (vec![std::collections::BTreeSet::new()], Vec::new());
        for event in events {
            match event {
                Event::Enter => open.push(std::collections::BTreeSet::new()),
                Event::Touch(local) => open.iter_mut().for_each(|set| _ = set.insert(*local)),
                Event::Leave if open.len() > 1 => {
                    left.push(open.pop().map_or(0, |set| set.len() as u64));
                }
                Event::Leave => {}
            }
        }
        left
    }

    #[derive(Clone, Debug)]
    enum Event {
        Enter,
        Leave,
        Touch(u32),
    }

    proptest::proptest! {
        #[test]
        fn locals_count_once_in_each_block(
            events in proptest::collection::vec(proptest::prop_oneof![
                proptest::strategy::Just(Event::Enter),
                proptest::strategy::Just(Event::Leave),
                (0..4_u32).prop_map(Event::Touch),
            ], 0..60),
        ) {
            let mut frames = Frames::new(4);
            let mut left = Vec::new();
            for event in &events {
                match event {
                    Event::Enter => frames.enter(),
                    Event::Touch(local) => frames.touch(*local),
                    Event::Leave if frames.open.len() > 1 => left.push(frames.leave()),
                    Event::Leave => {}
                }
            }
            proptest::prop_assert_eq!(left, naive(&events));
        }
    }

    use proptest::strategy::Strategy as _;
}
