//! `polychord-web-bindgen IN.wasm FOLDER`: writes `model.js`, `model.d.ts` and `model_bg.wasm`.

use std::env;
use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let (Some(input), Some(folder)) = (args.next(), args.next()) else {
        eprintln!("usage: polychord-web-bindgen IN.wasm FOLDER");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(input).out_name("model").typescript(true).remove_name_section(true);
    let made = bindgen.web(true).and_then(|bindgen| bindgen.generate(folder));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("polychord-web-bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
