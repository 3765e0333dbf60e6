//! Hosts that a model is divided over.

use bytesize::ByteSize;
use polychord::api::Hosts;

use super::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HostsArgs {
    /// Divide the layers over this many hosts, by their memory: each process holds those of its host alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) hosts: Option<u32>,

    /// Memory of each of --hosts: one size for all (16GiB), or as many as there are hosts (16GiB,32GiB). By
    /// default each has as much as the others
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', requires = "hosts")]
    pub(crate) host_memory: Vec<ByteSize>,
}

impl HostsArgs {
    /// The hosts, if there are to be several.
    pub(crate) fn hosts(&self) -> Result<Option<Hosts>, Failure> {
        let Some(count) = self.hosts else { return Ok(None) };
        let count = count as usize;
        let sizes: Vec<_> = self.host_memory.iter().map(|size| size.as_u64()).collect();
        match sizes[..] {
            [] => Ok(Some(Hosts::Equal(count))),
            [all] => Ok(Some(Hosts::OfBytes(vec![all; count]))),
            _ if sizes.len() == count => Ok(Some(Hosts::OfBytes(sizes))),
            _ => Err(Failure::usage(format!(
                "--host-memory has {} sizes for {count} hosts: give one for all, or one for each",
                sizes.len()
            ))),
        }
    }
}
