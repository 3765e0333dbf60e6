//! Choosing a placement, for what a page has.
//!
//! Inventories, sizes and plans are those of the crates `model` and `plan`; what is decided here is what
//! the host's memories decide.

use polychord_model::demand::Demand;
use polychord_model::descriptor::Settings;
use polychord_model::layout::{Cut, Layout, Part};
use polychord_plan::range::PAGE;
use polychord_plan::{Guests, Inventory, Plan, PlannedMemory, Strategy};

use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Host, Options};
use crate::placed::{Build, Placed};

/// Decides which guests hold which layers of a model; `options` is JSON.
///
/// # Errors
///
/// If there is no room, with the numbers, or the plan is for another model.
#[wasm_bindgen]
pub fn place(model: &Model, options: &str) -> std::result::Result<Placed, JsError> {
    let options = Options::read(options)?;
    Ok(Placer::new(model, &options)?.place(&options)?)
}

/// What decides about the placement of a model.
struct Placer<'a> {
    model: &'a Model,
    settings: Settings,
    demand: Demand,
    host: Host,
}

/// How many memories the guest has beside its own, in the build that has several.
const MEMORIES: usize = 9;

impl<'a> Placer<'a> {
    fn new(model: &'a Model, options: &Options) -> Result<Self> {
        let settings = options.settings(&model.config)?;
        let demand = Demand::new(&model.config, &settings);
        Ok(Self { model, settings, demand, host: options.host.clone() })
    }

    fn place(&self, options: &Options) -> Result<Placed> {
        if let Some(plan) = &options.plan {
            return self.planned(plan);
        }
        match &*options.placement {
            "auto" => self.automatic(),
            "resident32" => self.resident("as asked for".into()),
            "sharded32" => self.sharded(options.memories, "as asked for"),
            "multi32" => self.multi("as asked for"),
            "native64" => self.native("as asked for"),
            "paged" => {
                let half = self.host.memory32_bytes / 2;
                self.paged(options.resident_bytes.unwrap_or(half), "as asked for")
            }
            other => Err(Error::Unavailable {
                placement: "this placement",
                reason: format!(
                    "'{}' is none of auto, resident32, sharded32, multi32, native64, paged",
                    polychord_plan::Printable(other)
                ),
            }),
        }
    }

    /// One 32-bit memory where all fits, which is the fastest; else one of 64 bits, several of 32 bits
    /// in one guest, several guests, and layers that are brought in from where they are stored.
    fn automatic(&self) -> Result<Placed> {
        let layout = self.model.layout(Cut::ByPart);
        let weights: u64 = layout.layers.iter().map(|layer| layer.bytes).sum();
        let caches = self.demand.all_caches();
        let all = caches.saturating_add(self.demand.fixed).saturating_add(weights);
        if let Some(total) = self.host.total_bytes.filter(|total| all > *total) {
            let reason = format!("weights and cache take {all} bytes, and there are {total}");
            let window = total.saturating_sub(all - weights) / 4 * 3;
            return self.paged(window, &reason);
        }
        let reason = format!("weights and cache, {all} bytes, fit in one 32-bit memory");
        let mut refused = match self.resident(reason) {
            Ok(placed) => return Ok(placed),
            Err(error) => error.to_string(),
        };
        let all = format!("weights and cache, {all} bytes, are more than one 32-bit memory");
        type Way<'a> = fn(&Placer<'a>, &str) -> Result<Placed>;
        let ways: [Way<'a>; 3] =
            [Self::native, Self::multi, |placer, reason| placer.sharded(None, reason)];
        for way in ways {
            match way(self, &all) {
                Ok(placed) => return Ok(placed),
                Err(error) => refused = format!("{refused}; {error}"),
            }
        }
        Err(Error::Unusable(refused))
    }

    fn resident(&self, reason: String) -> Result<Placed> {
        let plan = Strategy::ByLayer(Guests::Exactly(1)).plan(&self.parts())?;
        self.check_room("resident32", &plan)?;
        self.placed("resident32", reason, Build::Wasm32, plan)
    }

    fn native(&self, reason: &str) -> Result<Placed> {
        let plan = Strategy::ByLayer(Guests::Exactly(1)).plan(&self.parts())?;
        self.native_plan(plan, reason)
    }

    fn native_plan(&self, plan: Plan, reason: &str) -> Result<Placed> {
        let layout = self.model.layout_of(&plan)?;
        let needs = self.demand.of_guests(layout, &plan, self.settings.context)?;
        let needed = needs.iter().fold(0_u64, |sum, (weights, cache)| {
            sum.saturating_add(*weights).saturating_add(*cache)
        });
        let most = self.host.memory64_bytes;
        if needed > most {
            let reason = match most {
                0 => "this browser has no 64-bit memories".into(),
                _ => format!("{needed} bytes are needed, and a 64-bit memory here has {most}"),
            };
            return Err(Error::Unavailable { placement: "native64", reason });
        }
        self.placed("native64", reason.to_owned(), Build::Wasm64, plan)
    }

    fn multi(&self, reason: &str) -> Result<Placed> {
        let strategy = Strategy::OneGuest { memory_bytes: self.host.memory32_bytes };
        self.multi_plan(strategy.plan(&self.parts())?, reason)
    }

    fn multi_plan(&self, plan: Plan, reason: &str) -> Result<Placed> {
        let unavailable = |reason| Error::Unavailable { placement: "multi32", reason };
        if !self.host.multi_memory {
            return Err(unavailable("a module has only one memory in this browser".into()));
        }
        let memories = plan.memories.len();
        let largest = plan.memories.iter().map(|memory| memory.bytes).max().unwrap_or(0);
        let limit = self.host.memory32_bytes;
        if memories > MEMORIES || largest > limit {
            return Err(unavailable(format!(
                "{memories} memories of up to {largest} bytes are needed, and the guest has \
                 {MEMORIES} of up to {limit}"
            )));
        }
        let reason = format!("{reason}: {memories} memories");
        self.placed("multi32", reason, Build::Multi32, plan)
    }

    fn sharded(&self, guests: Option<usize>, reason: &str) -> Result<Placed> {
        let parts = self.parts();
        let plan = match guests {
            Some(guests) => {
                let most = parts.groups.len();
                if guests == 0 || guests > most {
                    let (asked, most) = (guests as u64, most as u64);
                    return Err(Error::Number { option: "memories", asked, least: 1, most });
                }
                Strategy::ByLayer(Guests::Exactly(guests)).plan(&parts)?
            }
            None => self.fewest_guests(Strategy::ByLayer)?,
        };
        self.check_room("sharded32", &plan)?;
        let reason = format!("{reason}: {} guests", plan.guests());
        self.placed("sharded32", reason, Build::Wasm32, plan)
    }

    fn paged(&self, resident_bytes: u64, reason: &str) -> Result<Placed> {
        let paged = |guests| Strategy::Paged { guests, resident_bytes };
        let plan = match self.fewest_guests(paged) {
            // A layer that is larger than its window.
            Err(Error::Plan(polychord_plan::Error::InvalidPlan { reason })) => {
                return Err(Error::Unusable(format!(
                    "with {resident_bytes} bytes for all weights, {reason}: allow more \
                     (residentBytes)"
                )));
            }
            plan => plan?,
        };
        self.check_windows(&plan, resident_bytes)?;
        self.check_room("paged", &plan)?;
        let reason = format!("{reason}: {resident_bytes} bytes of weights at a time");
        self.placed("paged", reason, Build::Wasm32, plan)
    }

    fn planned(&self, plan: &Plan) -> Result<Placed> {
        plan.validate()?;
        self.model.layout_of(plan)?;
        let (plan, reason) = (plan.clone(), "as the plan says");
        let bytes = plan.memories.iter().fold(0_u64, |sum, it| sum.saturating_add(it.bytes));
        if plan.guests() == 1 && bytes > self.host.memory32_bytes {
            let small = plan.memories.iter().all(|it| it.bytes <= self.host.memory32_bytes);
            let apart = plan.memories.iter().any(|it| it.region == PlannedMemory::KV);
            return match small && apart {
                true => self.multi_plan(plan, reason),
                false => self.native_plan(plan, reason),
            };
        }
        let name = match plan.guests() {
            _ if plan.memories.iter().any(|memory| memory.paged) => "paged",
            1 => "resident32",
            _ => "sharded32",
        };
        if name == "paged" {
            self.check_windows(&plan, bytes)?;
        }
        self.check_room(name, &plan)?;
        self.placed(name, reason.to_owned(), Build::Wasm32, plan)
    }

    fn placed(
        &self,
        name: &'static str,
        reason: String,
        build: Build,
        plan: Plan,
    ) -> Result<Placed> {
        Placed::new(self.model, self.settings, &self.demand, name, reason, build, plan)
    }

    fn parts(&self) -> Inventory {
        self.demand.parts(&self.model.config, self.model.layout(Cut::ByPart))
    }

    fn fewest_guests(&self, of: impl Fn(Guests) -> Strategy) -> Result<Plan> {
        let inventory = self.parts();
        match of(Guests::OfBytes(self.host.memory32_bytes)).plan(&inventory) {
            Err(polychord_plan::Error::TooLarge { .. }) => {
                Ok(of(Guests::Exactly(inventory.groups.len())).plan(&inventory)?)
            }
            plan => Ok(plan?),
        }
    }

    fn check_room(&self, placement: &'static str, plan: &Plan) -> Result<()> {
        let limit = self.host.memory32_bytes;
        let context = self.settings.context;
        let needs = self.demand.of_guests(self.model.layout_of(plan)?, plan, context)?;
        for (guest, (weights, cache)) in needs.into_iter().enumerate() {
            if weights.saturating_add(cache) > limit {
                return Err(Error::TooLarge { placement, guest, weights, cache, context, limit });
            }
        }
        Ok(())
    }

    /// Checks that each window holds what is needed at once.
    fn check_windows(&self, plan: &Plan, resident_bytes: u64) -> Result<()> {
        let layout = self.model.layout_of(plan)?;
        for (index, memory) in plan.memories.iter().enumerate().filter(|(_, it)| it.paged) {
            let needed = needed_at_once(layout, plan, index);
            if needed > memory.bytes {
                return Err(Error::Unusable(format!(
                    "layers that are needed at once take {needed} bytes, and with {resident_bytes} \
                     bytes for all weights there are {} for them: allow more (residentBytes)",
                    memory.bytes
                )));
            }
        }
        Ok(())
    }
}

/// Bytes of the largest part in a memory, with what is needed beside it.
fn needed_at_once(layout: &Layout, plan: &Plan, memory: usize) -> u64 {
    let mut parts = std::collections::BTreeMap::<Part, u64>::new();
    for layer in plan.layers_of(memory) {
        if let Some(part) = layout.part(layer.source.id) {
            let end = (layer.source.start % PAGE).saturating_add(layer.source.bytes);
            *parts.entry(part).or_default() += end.div_ceil(PAGE) * PAGE;
        }
    }
    let of = |part| parts.get(&part).copied().unwrap_or(0);
    let needed = |part: &Part| match part {
        Part::Block(_) => of(*part).saturating_add(of(Part::RopeFreqs)),
        Part::Output if layout.is_tied() => of(*part).saturating_add(of(Part::Embedding)),
        _ => of(*part),
    };
    parts.keys().map(needed).max().unwrap_or(0)
}
