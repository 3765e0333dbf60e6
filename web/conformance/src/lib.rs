//! The conformance suite on the WebAssembly engines of browsers and of Node: its test `conformance_web`.
