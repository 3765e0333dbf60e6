//! An answer that is sent to a TCP socket token by token, and cancelled when the client leaves.
//!
//! The client is a second thread of this program, so that the example runs by itself.
//!
//! cargo run --release --example stream -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::{io, thread};

use polychord::model::{
    CancelHandle, Chat, Error, GenerateOptions, Model, SessionOptions, Transformer,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: stream MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let session = Transformer::new(&engine)?.start(&Model::open(path)?, &SessionOptions::new())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let client = thread::spawn(move || ask(address, "Write a haiku about the sea."));
    let (socket, _) = listener.accept()?;
    serve(socket, &mut Chat::new(session)?)?;
    let answer = client.join().map_err(|_| "the client panicked")??;
    println!("{answer}");
    assert!(!answer.trim().is_empty());
    Ok(())
}

/// Reads a question, a line, and writes the answer as it comes.
fn serve(mut socket: TcpStream, chat: &mut Chat) -> Result<(), Error> {
    let mut question = String::new();
    let cancel = CancelHandle::new();
    if BufReader::new(&socket).read_line(&mut question).is_err() {
        return Ok(());
    }
    chat.user(question.trim_end())?;
    for token in chat.answer(&GenerateOptions::new().max_tokens(60).cancel(&cancel))? {
        if socket.write_all(token?.text.as_bytes()).is_err() {
            // The client has left. Any thread may cancel; the answer ends before its next token.
            cancel.cancel();
        }
    }
    Ok(())
}

fn ask(address: SocketAddr, question: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    writeln!(socket, "{question}")?;
    socket.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
