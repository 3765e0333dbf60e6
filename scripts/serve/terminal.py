"""`polychord chat` on a terminal: terminal.py PROGRAM ENGINE FOLDER."""

import os
import pty
import re
import select
import signal
import stat
import sys
import time

program, engine, folder = sys.argv[1:]
state = os.path.join(folder, f"state-{engine}")
escapes = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    def __init__(self, *more):
        options = ["--engine", engine, "--context", "1024", "--temperature", "0", "-n", "200", *more]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", XDG_STATE_HOME=state, COLUMNS="200", LINES="50")
            os.execv(program, [program, "chat", *options])
        self.seen = b""
        self.until_prompt(120)

    def read(self, seconds):
        """What comes within this time; nothing at the end."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self.fd, 65536)
        except OSError:
            return b""

    def until(self, wanted, seconds=60):
        """Text up to `wanted`, and what comes right after it."""
        end, text = time.monotonic() + seconds, b""
        while True:
            text += self.read(0.2)
            plain = escapes.sub(b"", text)
            if wanted(plain):
                return plain.decode(errors="replace")
            assert time.monotonic() < end, f"it does not come: {plain[-2000:]!r}"

    def until_prompt(self, seconds=60):
        """The answer, up to the next prompt, behind which nothing comes for a while."""
        end, text = time.monotonic() + seconds, b""
        while True:
            piece = self.read(0.4)
            text += piece
            plain = escapes.sub(b"", text)
            if not piece and plain.endswith(b"> "):
                return plain.decode(errors="replace")
            assert time.monotonic() < end, f"no prompt comes: {plain[-2000:]!r}"

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def say(self, line):
        self.type(line)
        time.sleep(0.1)
        self.read(0.5)
        self.type("\r")
        return self.until_prompt(120)

    def is_alive(self):
        return os.waitpid(self.pid, os.WNOHANG) == (0, 0)

    def end(self):
        self.type("\x04")
        while self.read(5):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        assert status == 0, status


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


terminal = Terminal("--system", "Be short.")
# A line is edited: the cursor goes back over a letter, which is replaced.
terminal.type("/hexp\x1b[D\x7fl")
assert "/system TEXT" in terminal.say("")
# The line before, again.
terminal.type("\x1b[A")
assert "/system TEXT" in terminal.say("")

answer = terminal.say("What is the capital of France?")
assert len(answer.strip().splitlines()) >= 2, answer
before = terminal.say("/stats")
assert ", 3 turns, " in before and "last answer: " in before, before

saved = os.path.join(folder, f"conversation-{engine}")
said = terminal.say(f"/save {saved}")
assert "saved " in said and os.path.getsize(saved) > 1000, said
next_one = terminal.say("And of Spain?")
restored = terminal.say(f"/load {saved}")
assert re.search(r"3 turns, \d+ tokens", restored), restored
# It goes on from there with the same bits.
again = terminal.say("And of Spain?")
assert again.strip().splitlines()[-3:] == next_one.strip().splitlines()[-3:], (next_one, again)
other = terminal.say("/regen")
assert len(other) > 3 and ", 5 turns, " in terminal.say("/stats"), other

# Ctrl-C ends an answer, and not the program.
terminal.type("Count from one to five hundred in words, slowly, with a story for each.\r")
terminal.until(lambda text: len(text) > 150)
terminal.type("\x03")
terminal.until_prompt(20)
assert terminal.is_alive()
# At the prompt it gives up the line.
terminal.type("/nonsense\x03")
terminal.until_prompt(20)
assert terminal.is_alive()
assert "there is no /nonsense" in terminal.say("/nonsense")
assert ", 1 turns, " in (terminal.say("/system Be loud."), terminal.say("/stats"))[1]
terminal.end()

# Lines are kept for the next time, and no other user reads them.
history = os.path.join(state, "polychord", "chat-history")
assert stat.S_IMODE(os.stat(history).st_mode) == 0o600, oct(os.stat(history).st_mode)
assert stat.S_IMODE(os.stat(os.path.dirname(history)).st_mode) == 0o700
with open(history) as file:
    lines = file.read().splitlines()
assert "What is the capital of France?" in lines and lines[-1] == "/stats", lines
terminal = Terminal()
terminal.type("\x1b[A")
assert ", 0 turns, " in terminal.say("")
terminal.end()
terminal = Terminal("--no-history")
terminal.say("/help")
terminal.type("\x1b[A\x1b[A")
assert "/system TEXT" in terminal.say(""), "another line than the only one"
terminal.end()
with open(history) as file:
    assert file.read().splitlines() == lines

# A terminal that goes away ends the program.
terminal = Terminal("--no-history")
os.close(terminal.fd)
for _ in range(100):
    if os.waitpid(terminal.pid, os.WNOHANG) != (0, 0):
        break
    time.sleep(0.1)
else:
    os.kill(terminal.pid, signal.SIGKILL)
    raise AssertionError("it goes on without its terminal")
