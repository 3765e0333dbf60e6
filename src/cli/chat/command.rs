//! What a line says: something to the model, or a command.

/// What `/help` prints.
pub(super) const HELP: &str = "\
/system TEXT   begin anew, and tell the model this first
/reset         begin anew
/regen         answer the last question in another way
/save FILE     write the conversation with its keys and values
/load FILE     go on with one that was saved, on any engine
/stats         how long the conversation is, and how fast the last answer was
/quit          end
Ctrl-C ends an answer. A line that begins with // is said with one / in front.
";

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// To the model.
    Say(&'a str),
    System(&'a str),
    Reset,
    Again,
    Save(&'a str),
    Load(&'a str),
    Stats,
    Help,
    Quit,
    Unknown(&'a str),
}

impl<'a> Command<'a> {
    /// None if the line is empty.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() {
            return None;
        }
        if !line.starts_with('/') || line.starts_with("//") {
            return Some(Self::Say(line.strip_prefix('/').unwrap_or(line)));
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        Some(match name {
            "/system" => Self::System(rest),
            "/reset" => Self::Reset,
            "/regen" => Self::Again,
            "/save" if !rest.is_empty() => Self::Save(rest),
            "/load" if !rest.is_empty() => Self::Load(rest),
            "/stats" => Self::Stats,
            "/help" => Self::Help,
            "/quit" | "/exit" => Self::Quit,
            name => Self::Unknown(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_or_obeyed() {
        for (line, command) in [
            ("  ", None),
            ("Hello /you", Some(Command::Say("Hello /you"))),
            ("//etc is a folder", Some(Command::Say("/etc is a folder"))),
            ("/system Be short. ", Some(Command::System("Be short."))),
            ("/system", Some(Command::System(""))),
            ("/save a file", Some(Command::Save("a file"))),
            ("/save", Some(Command::Unknown("/save"))),
            ("/quit", Some(Command::Quit)),
            ("/nonsense x", Some(Command::Unknown("/nonsense"))),
        ] {
            assert_eq!(Command::parse(line), command, "{line:?}");
        }
    }
}
