//! A placement that was decided on, as a host in JavaScript follows it.

use std::collections::BTreeSet;
use std::ops::Range;

use polychord_abi::transformer::Tensor;
use polychord_model::demand::Demand;
use polychord_model::descriptor::{self, Settings};
use polychord_model::layout::{Layout, Part};
use polychord_plan::{Plan, PlannedLayer};
use serde_json::{Value, json};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Error, Result};
use crate::model::Model;

/// What memory a build of the guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    Wasm32,
    Wasm64,
    Multi32,
}

/// A placement that was decided on.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Placed {
    settings: Settings,
    plan: Plan,
    guests: Vec<Guest>,
    json: String,
}

/// What one guest holds.
#[derive(Debug)]
struct Guest {
    blocks: Range<u32>,
    tensors: Vec<Tensor>,
}

#[wasm_bindgen]
impl Placed {
    /// All of it but the descriptors, as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        self.json.clone()
    }

    /// The plan, as `polychord plan` writes it.
    #[must_use]
    pub fn plan(&self) -> String {
        serde_json::to_string_pretty(&self.plan).unwrap_or_default()
    }

    /// What `transformer_init` of a guest takes; `cache` is the address of its memory for keys and
    /// values, or 0.
    ///
    /// # Errors
    ///
    /// If there is no such guest.
    pub fn descriptor(
        &self,
        model: &Model,
        guest: usize,
        cache: u64,
        rank: u32,
        ranks: u32,
    ) -> std::result::Result<Vec<u8>, JsError> {
        let held = self.guests.get(guest);
        let held = held.ok_or_else(|| Error::Unusable(format!("it has no guest {guest}")))?;
        let settings = self.settings.rank(rank, ranks);
        Ok(descriptor::bytes(&model.config, &settings, held.blocks.clone(), cache, &held.tensors))
    }

    /// Whether guests that have computed up to `reached` can go on at `position`: a state cannot be
    /// cut, and windows keep little more than they see.
    #[wasm_bindgen(js_name = canGoOn)]
    #[must_use]
    pub fn can_go_on(&self, model: &Model, position: u32, reached: u32) -> bool {
        model.config.can_go_on(position, reached, &self.settings.run())
    }
}

impl Placed {
    pub(crate) fn new(
        model: &Model,
        settings: Settings,
        demand: &Demand,
        name: &'static str,
        reason: String,
        build: Build,
        plan: Plan,
    ) -> Result<Self> {
        let layout = model.layout_of(&plan)?;
        let guests = guests(layout, &plan)?;
        let needs = demand.of_guests(layout, &plan, settings.context)?;
        let needs: Vec<_> =
            needs.into_iter().map(|(weights, cache)| weights.saturating_add(cache)).collect();
        let json = json!({
            "name": name,
            "reason": reason,
            "build": match build {
                Build::Wasm32 => "wasm32",
                Build::Wasm64 => "wasm64",
                Build::Multi32 => "multi32",
            },
            "context": settings.context,
            "batch": settings.batch,
            "dim": model.config.dim,
            "vocab": model.config.vocab,
            "carried": model.config.carried(),
            "heads": model.config.heads,
            "guestBytes": needs,
            "guests": (0..plan.guests()).zip(&guests).map(|(guest, held)| json!({
                "blocks": [held.blocks.start, held.blocks.end],
                "memories": memories(layout, &plan, guest),
            })).collect::<Vec<_>>(),
            "route": route(layout, &plan, &guests)?,
            "tied": layout.is_tied(),
        })
        .to_string();
        Ok(Self { settings, plan, guests, json })
    }
}

fn guests(layout: &Layout, plan: &Plan) -> Result<Vec<Guest>> {
    let guest = |guest: u32| {
        let layers: Vec<_> =
            plan.layers.iter().filter(|layer| plan.guest_of(layer) == Some(guest)).collect();
        let ids: BTreeSet<_> = layers.iter().map(|layer| layer.source.id.0).collect();
        let held = |tensor: &&Tensor| ids.contains(&tensor.layer);
        let tensors = layout.tensors.iter().filter(held).copied().collect();
        Ok(Guest { blocks: blocks(layout, &layers, guest)?, tensors })
    };
    (0..plan.guests()).map(guest).collect()
}

/// The blocks of a guest, which must follow each other.
fn blocks(layout: &Layout, layers: &[&PlannedLayer], guest: u32) -> Result<Range<u32>> {
    let number = |layer: &&PlannedLayer| match layout.part(layer.source.id) {
        Some(Part::Block(block)) => Some(block),
        _ => None,
    };
    let blocks: BTreeSet<_> = layers.iter().filter_map(number).collect();
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(0..0) };
    if (last - first) as usize + 1 == blocks.len() {
        return Ok(*first..last + 1);
    }
    Err(Error::Unusable(format!("the blocks of guest {guest} do not follow each other")))
}

fn memories(layout: &Layout, plan: &Plan, guest: u32) -> Vec<Value> {
    let part = |layer: &PlannedLayer| match layout.part(layer.source.id) {
        Some(Part::Embedding) => json!("embedding"),
        Some(Part::Output) => json!("output"),
        Some(Part::Block(block)) => json!(block),
        _ => json!("rope"),
    };
    let layer = |layer: &PlannedLayer| {
        json!({
            "id": layer.source.id.0,
            "name": layer.source.name,
            "start": layer.source.start,
            "bytes": layer.source.bytes,
            "offset": layer.offset,
            "part": part(layer),
        })
    };
    let memory = |(index, memory): (usize, &polychord_plan::PlannedMemory)| {
        json!({
            "region": memory.region,
            "bytes": memory.bytes,
            "paged": memory.paged,
            "isCache": memory.region == polychord_plan::PlannedMemory::KV,
            "layers": plan.layers_of(index).map(layer).collect::<Vec<_>>(),
        })
    };
    plan.memories_of(guest).map(memory).collect()
}

/// The way of the hidden state through the guests: each block is on it once, in order.
fn route(layout: &Layout, plan: &Plan, guests: &[Guest]) -> Result<Value> {
    let unusable = |reason: String| Error::Unusable(reason);
    let holder = |part: Part| {
        let layer = plan.layers.iter().find(|it| layout.part(it.source.id) == Some(part));
        layer.and_then(|layer| plan.guest_of(layer))
    };
    let (Some(embed), Some(head)) = (holder(Part::Embedding), holder(Part::Output)) else {
        return Err(unusable("it has no embedding or no output".into()));
    };
    if layout.is_tied() && embed != head {
        let reason = "the output is tied to the embedding, but they are in two guests";
        return Err(unusable(reason.into()));
    }
    let mut order: Vec<_> =
        (0..guests.len()).filter(|guest| !guests[*guest].blocks.is_empty()).collect();
    order.sort_by_key(|guest| guests[*guest].blocks.start);
    let mut next = 0;
    for guest in &order {
        if guests[*guest].blocks.start != next {
            return Err(unusable(format!("block {next} is nowhere, or twice")));
        }
        next = guests[*guest].blocks.end;
    }
    Ok(json!({ "embed": embed, "blocks": order, "head": head }))
}
