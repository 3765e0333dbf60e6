//! `link-memories IN.wasm OUT.wasm`: gives a guest further memories, as
//! [`polychord_passes::memories`] describes.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [input, output] = &args[..] else {
        return fail("usage: link-memories IN.wasm OUT.wasm");
    };
    let linked = std::fs::read(input)
        .map_err(|error| error.to_string())
        .and_then(|wasm| polychord_passes::memories::link(&wasm).map_err(|e| e.to_string()));
    match linked.and_then(|wasm| std::fs::write(output, wasm).map_err(|e| e.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("link-memories: {input}: {error}")),
    }
}

#[allow(clippy::print_stderr, reason = "a command")]
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}
