//! The imports of a module, matched with what there is, before any engine sees them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use polychord_abi::{MODULE, PAGE};

use super::layers::LAYER_FUNCTIONS;
use super::types::{ExternType, GlobalType, ImportType, MemoryType};
use super::{Imports, Item};
use crate::error::Unmatched;
use crate::host::Host;
use crate::value::AddressType;
use crate::{Error, Result};

/// Most imports of which a refusal lists similar names: a stranger's module may have very many.
const EXPLAINED: usize = 32;
/// Most similar names.
const SIMILAR: usize = 3;

/// What the guest of a host imports, in the order of its module.
///
/// # Errors
///
/// [`Error::Imports`] with every import that is missing or has another type, and
/// [`Error::TooLarge`] if a memory begins beyond the guest's limits.
pub(crate) fn resolve(host: &Host, given: Option<&Imports>) -> Result<Vec<Item>> {
    let module = host.module();
    let own = own(module.address());
    let (mut items, mut unmatched) = (Vec::new(), Vec::new());
    for import in module.imports() {
        let find = |imports: &Imports| imports.get(&import.module, &import.name).cloned();
        match find(own).or_else(|| given.and_then(find)) {
            Some(item) if item.fits(&import.ty) => items.push(item),
            item => {
                let (module, name) = (import.module.clone(), import.name.clone());
                let explain = unmatched.len() < EXPLAINED;
                let reason = match item {
                    Some(item) => mismatch(&item, &import.ty),
                    None if explain => missing(import, own, given),
                    None => format!("there is no such {}", import.ty.kind()),
                };
                unmatched.push(Unmatched { module, name, reason });
            }
        }
    }
    if !unmatched.is_empty() {
        return Err(Error::Imports { unmatched });
    }
    items.into_iter().map(|item| within_limits(item, host)).collect()
}

/// The functions of the module `env`, for guests with this type of addresses.
fn own(address: AddressType) -> &'static Imports {
    static NARROW: LazyLock<Imports> = LazyLock::new(|| all(AddressType::I32));
    static WIDE: LazyLock<Imports> = LazyLock::new(|| all(AddressType::I64));
    match address {
        AddressType::I32 => &NARROW,
        AddressType::I64 => &WIDE,
    }
}

fn all(address: AddressType) -> Imports {
    let item = |function: &'static super::LayerFunction| {
        (function.name.to_owned(), Item::Function(function.for_guests(address)))
    };
    let items = LAYER_FUNCTIONS.iter().map(item).collect();
    Imports { modules: BTreeMap::from([(MODULE.to_owned(), items)]).into() }
}

/// A memory that does not grow beyond the guest's limits.
fn within_limits(item: Item, host: &Host) -> Result<Item> {
    let Item::Memory(ty) = item else { return Ok(item) };
    let limit = host.memory_limit();
    let asked = ty.min_pages.saturating_mul(PAGE);
    if asked > limit {
        let what = "a memory that the host makes for the guest".into();
        return Err(Error::TooLarge { what, asked, limit, limited_by: host.limited_by() });
    }
    let most = (limit / PAGE).min(ty.max_pages.unwrap_or(u64::MAX));
    Ok(Item::Memory(ty.max(most)))
}

impl Item {
    /// Whether a module that wants something of this type can have it.
    fn fits(&self, wanted: &ExternType) -> bool {
        match (self, wanted) {
            (Self::Function(function), ExternType::Function(ty)) => function.ty() == ty,
            (Self::Memory(has), ExternType::Memory(wants)) => {
                let max =
                    wants.max_pages.is_none_or(|most| has.max_pages.is_some_and(|max| max <= most));
                has.address == wants.address && has.min_pages >= wants.min_pages && max
            }
            (Self::Global(has, _), ExternType::Global(wants)) => has == wants,
            _ => false,
        }
    }
}

impl ExternType {
    /// What it is, in a word.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Function(_) => "function",
            Self::Memory(_) => "memory",
            Self::Global(GlobalType { .. }) => "global",
            Self::Table(_) => "table",
            Self::Tag(_) => "tag",
            Self::Reference { kind, .. } => kind,
        }
    }

    /// Why no host could supply it, if none could.
    const fn beyond(&self) -> Option<&'static str> {
        match self {
            Self::Function(_) | Self::Memory(MemoryType { .. }) | Self::Global(_) => None,
            Self::Table(_) => Some("the host has no words for tables: let the guest have its own"),
            Self::Tag(_) | Self::Reference { .. } => {
                Some("the host has no words for references: pass numbers")
            }
        }
    }
}

fn mismatch(item: &Item, wanted: &ExternType) -> String {
    let advice = match (item, wanted) {
        (Item::Memory(_), ExternType::Memory(_)) => {
            ": the host's must begin with as many pages at least, and must not grow beyond the maximum \
             that the guest declares"
        }
        _ => "",
    };
    format!("the host has {}, but the guest declares {wanted}{advice}", item.ty())
}

/// Why an import is missing, with what there is under similar names.
fn missing(import: &ImportType, own: &Imports, given: Option<&Imports>) -> String {
    if let Some(why) = import.ty.beyond() {
        return format!("{}: {why}", import.ty);
    }
    let wanted = &import.ty;
    let all = || own.iter().chain(given.into_iter().flat_map(Imports::iter));
    let mut names: Vec<_> = all()
        .filter_map(|(module, name, ty)| {
            let near = match (module == import.module, name == import.name) {
                (_, true) => 0,
                (true, false) => distance(name, &import.name),
                (false, false) => 1 + distance(name, &import.name),
            };
            (near <= 1 + import.name.chars().count() / 3)
                .then(|| (near, format!("{module}.{name}, {ty}")))
        })
        .collect();
    names.sort();
    let similar: Vec<_> = names.into_iter().take(SIMILAR).map(|(_, name)| name).collect();
    if !similar.is_empty() {
        return format!("there is no such {}; similar are {}", wanted.kind(), similar.join("; "));
    }
    let same = all().filter(|(module, ..)| *module == import.module).map(|(_, name, _)| name);
    let mut same: Vec<_> = same.take(EXPLAINED + 1).collect();
    let more = if same.len() > EXPLAINED { same.pop().map_or("", |_| " and more") } else { "" };
    match same.is_empty() {
        false => format!(
            "there is no such {}; {} has {}{more}",
            wanted.kind(),
            import.module,
            same.join(", ")
        ),
        true => format!(
            "there is nothing of a module {}: give {wanted} (Imports, Instantiation::imports)",
            import.module
        ),
    }
}

/// How many letters have to be changed, put in or left out to make one name of the other.
fn distance(one: &str, other: &str) -> usize {
    /// Longer names are not compared.
    const LONG: usize = 64;
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    if one.len().max(other.len()) > LONG {
        return usize::MAX - 1;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in
            [("", "abc", 3), ("log", "LOG", 0), ("kitten", "sitting", 3), ("log", "logs", 1)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{one} {other}");
        }
    }
}
