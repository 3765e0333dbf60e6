//! Choosing a placement, for what a page has.
//!
//! Inventories, sizes and plans are those of the crates `model` and `plan`; what is decided here is what
//! the host's memories decide.

use polychord_model::demand::Demand;
use polychord_model::descriptor::Settings;
use polychord_model::layout::Cut;
use polychord_model::placing::{
    MEMORIES, NoWindows, fewest_guests, first_narrow_window, first_without_room, plan_windows,
};
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
            None => fewest_guests(&parts, self.host.memory32_bytes, Strategy::ByLayer)?,
        };
        self.check_room("sharded32", &plan)?;
        let reason = format!("{reason}: {} guests", plan.guests());
        self.placed("sharded32", reason, Build::Wasm32, plan)
    }

    fn paged(&self, resident_bytes: u64, reason: &str) -> Result<Placed> {
        let (layout, limit) = (self.model.layout(Cut::ByPart), self.host.memory32_bytes);
        let plan = plan_windows(layout, &self.parts(), limit, resident_bytes);
        let plan = plan.map_err(|error| match error {
            NoWindows::Plan(error) => error.into(),
            error => Error::Unusable(format!(
                "{error}, and there are {resident_bytes} for all weights: allow more (residentBytes)"
            )),
        })?;
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
            self.check_windows(&plan)?;
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

    fn check_room(&self, placement: &'static str, plan: &Plan) -> Result<()> {
        let limit = self.host.memory32_bytes;
        let context = self.settings.context;
        let needs = self.demand.of_guests(self.model.layout_of(plan)?, plan, context)?;
        match first_without_room(&needs, limit) {
            None => Ok(()),
            Some((guest, weights, cache)) => {
                Err(Error::TooLarge { placement, guest, weights, cache, context, limit })
            }
        }
    }

    /// Checks that each window of a plan holds what is needed at once.
    fn check_windows(&self, plan: &Plan) -> Result<()> {
        match first_narrow_window(self.model.layout_of(plan)?, plan) {
            None => Ok(()),
            Some((memory, needed)) => Err(Error::Unusable(format!(
                "layers that are needed at once take {needed} bytes, and memory {memory} has {}",
                plan.memories.get(memory).map_or(0, |memory| memory.bytes)
            ))),
        }
    }
}
