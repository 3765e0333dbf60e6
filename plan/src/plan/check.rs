//! Whether a plan holds together, and whether it is for a model.

use std::collections::BTreeSet;

use super::{Plan, PlannedMemory, invalid, version};
use crate::Result;
use crate::layer::{PlannedLayer, SourceRange};
use crate::range::{MAX_BYTES, PAGE, check_range};

impl Plan {
    /// Checks that every layer has a place of its own, within its memory, and that guests are
    /// numbered without gaps, as are hosts. Takes time in proportion to the size of the plan (and the logarithm
    /// of it), whatever is in it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`](crate::Error::InvalidPlan) with the first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        version::check(self.version).map_err(invalid)?;
        self.check_counts()?;
        self.check_memories()?;
        self.check_hosts()?;
        let mut ids = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let problem = |problem| invalid(format!("{} {problem}", layer.source.name));
            let memory = self.check_layer(layer).map_err(problem)?;
            ids.push((memory.guest, layer.source.id));
        }
        ids.sort_unstable();
        if let Some([(guest, id), _]) = ids.array_windows().find(|[first, next]| first == next) {
            return Err(invalid(format!("guest {guest} has two layers numbered {}", id.0)));
        }
        self.check_overlap()
    }

    /// Checks that the layers are those of a model, each of them somewhere and as the model
    /// has it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`](crate::Error::InvalidPlan) with the first layer that is not.
    pub fn check_model(&self, layers: &[SourceRange]) -> Result<()> {
        let has: BTreeSet<_> = layers.iter().collect();
        let mut missing = has.clone();
        for PlannedLayer { source, .. } in &self.layers {
            if !has.contains(source) {
                let SourceRange { id, name, start, bytes } = source;
                return Err(invalid(format!(
                    "it was made for another model: this one has no layer {} ({name}) of {bytes} \
                     bytes at {start}",
                    id.0
                )));
            }
            missing.remove(source);
        }
        match missing.first() {
            Some(layer) => Err(invalid(format!("it has no place for {}", layer.name))),
            None => Ok(()),
        }
    }

    /// Refuses what no model can need, before anything else looks at each part of it.
    fn check_counts(&self) -> Result<()> {
        let (layers, memories, guests) =
            (self.layers.len(), self.memories.len(), u64::from(self.guests()));
        let most = Self::MAX_LAYERS;
        if layers > most {
            return Err(invalid(format!("it has {layers} layers, and {most} are the most")));
        }
        // One for a plan that has no layers yet.
        let (most, of) = (2 * layers + 1, "two for each layer and one more");
        if memories > most {
            let counts = format!("it has {memories} memories for {layers} layers");
            return Err(invalid(format!("{counts}, and {most} are the most: {of}")));
        }
        if guests > layers.max(1) as u64 && guests <= memories as u64 {
            let counts = format!("it has {guests} guests for {layers} layers");
            return Err(invalid(format!("{counts}, and each guest needs a layer")));
        }
        Ok(())
    }

    /// Checks what memories say of themselves.
    fn check_memories(&self) -> Result<()> {
        // By the number of the guest; more numbers than memories would leave a gap.
        let mut guests = vec![OfGuest::default(); self.memories.len()];
        for memory in &self.memories {
            if let Some(guest) = guests.get_mut(memory.guest as usize) {
                guest.add(memory);
            }
        }
        let count = self.guests() as usize;
        let is_gap = |guest: &OfGuest| guest.caches + guest.others == 0;
        let gap = guests.iter().take(count).position(is_gap);
        if let Some(gap) = gap.or((count > guests.len()).then_some(guests.len())) {
            return Err(invalid(format!("there is no guest {gap}, but later ones")));
        }
        for (number, guest) in guests.iter().enumerate() {
            let OfGuest { caches, others, paged } = guest;
            if *caches > 1 {
                return Err(invalid(format!("guest {number} has {caches} memories for its cache")));
            }
            if *paged && *others > 1 {
                let reason = "has a window and another memory for layers, but it can have one";
                return Err(invalid(format!("guest {number} {reason}")));
            }
        }
        Ok(())
    }

    /// Checks that each guest has a host, and each host a guest.
    fn check_hosts(&self) -> Result<()> {
        let (named, guests) = (self.hosts.len(), self.guests() as usize);
        if named == 0 {
            return Ok(());
        }
        if named != guests {
            return Err(invalid(format!("it names a host for {named} guests, and has {guests}")));
        }
        let mut used = vec![false; guests];
        for (guest, host) in self.hosts.iter().enumerate() {
            let Some(used) = used.get_mut(*host as usize) else {
                let most = format!("{guests} guests are on {guests} hosts at most");
                return Err(invalid(format!("guest {guest} is on host {host}, but {most}")));
            };
            *used = true;
        }
        let gap = used.iter().take(self.host_count() as usize).position(|used| !used);
        match gap {
            Some(gap) => Err(invalid(format!("host {gap} has no guest, but later ones have"))),
            None => Ok(()),
        }
    }

    fn check_layer(&self, layer: &PlannedLayer) -> Result<&PlannedMemory, String> {
        let SourceRange { bytes, start, .. } = layer.source;
        let Some(memory) = self.memories.get(layer.memory as usize) else {
            return Err(format!("is in memory {}, which does not exist", layer.memory));
        };
        if memory.region == PlannedMemory::KV {
            return Err(format!("is in memory {}, which is for the cache", layer.memory));
        }
        if bytes == 0 {
            return Err("has no bytes".into());
        }
        // In a window a layer may be anywhere.
        let offset = if memory.paged { layer.offset % PAGE } else { layer.offset };
        check_range("its place", offset, bytes, memory.bytes)
            .and_then(|()| check_range("its place", layer.offset, bytes, MAX_BYTES))
            .and_then(|()| check_range("its source", start, bytes, u64::MAX))
            .map_err(|error| format!("does not fit: {error}"))?;
        Ok(memory)
    }

    fn check_overlap(&self) -> Result<()> {
        let place = |layer: &'_ PlannedLayer| {
            let pages = layer.offset / PAGE..(layer.offset + layer.source.bytes).div_ceil(PAGE);
            (layer.memory, pages.start, pages.end)
        };
        let mut places: Vec<_> =
            self.layers.iter().map(|layer| (place(layer), &layer.source.name)).collect();
        places.sort_unstable();
        for [((memory, _, end), name), ((next_memory, start, _), next)] in places.array_windows() {
            if memory == next_memory && start < end {
                let reason = format!("{name} and {next} share page {start} of memory {memory}");
                return Err(invalid(reason));
            }
        }
        Ok(())
    }
}

/// The memories of one guest.
#[derive(Clone, Default)]
struct OfGuest {
    caches: usize,
    others: usize,
    paged: bool,
}

impl OfGuest {
    fn add(&mut self, memory: &PlannedMemory) {
        match memory.region == PlannedMemory::KV {
            true => self.caches += 1,
            false => self.others += 1,
        }
        self.paged |= memory.paged;
    }
}
