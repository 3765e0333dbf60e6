//! Hostile chat templates: each ends in an error, within a second and 64 MiB.
//!
//! An allocator counts what this program holds, and each template is also rendered by a process
//! of its own with little address space, so that an abort would be seen.

#![allow(clippy::unwrap_used, unsafe_code, reason = "tests; a global allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use polychord_model::chat::{ChatTemplate, Error, GenerationPrompt, Message};

const MEMORY: usize = 64 << 20;
/// Generous, for slow and busy machines; one alone takes well below a second.
const TIME: Duration = Duration::from_secs(20);
/// Templates are rendered one at a time, since the allocator counts for all.
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all memory comes from and goes to the system's allocator with unchanged arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Templates by name.
fn hostile() -> Vec<(&'static str, String)> {
    let around = |open: &str, inner: &str, close: &str, count: usize| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let print = |expr: String| format!("{{{{ {expr} }}}}");
    let grow = |start: &str, step: &str, count: usize, end: &str| {
        format!(
            "{{% set ns = namespace(s={start}) %}}{{% for i in range({count}) %}}{{% set ns.s = {step} %}}{{% endfor %}}{{{{ {end} }}}}"
        )
    };
    let mut all = vec![
        // Chains and nesting of the source.
        ("attributes", print("a".to_owned() + &".a".repeat(12_000))),
        ("many attributes", print("a".to_owned() + &".a".repeat(100_000))),
        ("sums", print("1+".repeat(60_000) + "1")),
        ("filters", print("a".to_owned() + &"|e".repeat(80_000))),
        ("calls", print("a".to_owned() + &"()".repeat(50_000))),
        ("not", print("not ".repeat(50_000) + "1")),
        ("minus", print("-".repeat(50_000) + "1")),
        ("parentheses", print(around("(", "1", ")", 20_000))),
        ("brackets", print(around("[", "1", "]", 50_000))),
        ("deep brackets", print(around("[", "1", "]", 1_000))),
        ("deep braces", print(around("{1:", "1", "}", 1_000))),
        ("deep subscripts", print(around("a[", "1", "]", 1_000))),
        ("deep parentheses", print(around("(", "1", ")", 1_000))),
        ("deep calls", print(around("range(", "1", ")", 1_000))),
        ("deep signs", print("-".repeat(1_000) + "1")),
        ("deep conditionals", print("1 if a else ".repeat(1_000) + "1")),
        ("deep conditions", print("1".to_owned() + &" if a".repeat(1_000))),
        ("deep targets", format!("{{% set {} = 1 %}}", around("(", "a", ")", 1_000))),
        ("braces", print(around("{1:", "1", "}", 30_000))),
        ("subscripts", print(around("a[", "1", "]", 50_000))),
        ("conditionals", print("1 if a else ".repeat(20_000) + "1")),
        ("conditionals without else", print("1".to_owned() + &" if a".repeat(20_000))),
        ("tests", print("a".to_owned() + &" is defined".repeat(20_000))),
        ("comparisons", print("1<".repeat(50_000) + "1")),
        ("or", print("a or ".repeat(50_000) + "b")),
        ("targets", format!("{{% set {} = 1 %}}", around("(", "a", ")", 50_000))),
        ("blocks", around("{% if a %}", "", "{% endif %}", 12_000)),
        ("loops", around("{% for a in b %}", "", "{% endfor %}", 9_000)),
        ("filter blocks", around("{% filter e %}", "", "{% endfilter %}", 9_000)),
        ("elif", format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(20_000))),
        ("open block", "{% if 1 %}".repeat(20_000)),
        ("open comment", "{#".repeat(100_000)),
        ("open raw", "{% raw %}".to_owned() + &"{% end".repeat(40_000)),
        ("macros", "{% macro m() %}".repeat(15_000)),
        // Sizes.
        ("indent", print("('x'|indent(100000000000, true))|length".into())),
        ("center filter", print("'x'|center(100000000000)".into())),
        ("center", print("'x'.center(100000000000)|length".into())),
        ("ljust", print("'x'.ljust(9999999999)".into())),
        ("zfill", print("'7'.zfill(9223372036854775807)".into())),
        ("repeat", print("('x' * 100000000000)|length".into())),
        ("repeat a list", print("([1] * 9223372036854775807)|length".into())),
        ("repeat repeats", print("'x' * 99999 * 99999".into())),
        ("width", print("'%99999999999s' % 'x'".into())),
        ("precision", print("'%.99999999999f' % 1.5".into())),
        ("range", print("range(9223372036854775807)|length".into())),
        ("negative range", print("range(9223372036854775807, -9223372036854775807, -1)".into())),
        ("batch", print("[1]|batch(100000000000, 1)|length".into())),
        ("slice", print("[1]|slice(100000000000)|length".into())),
        ("round", print("1.5|round(99999999999)".into())),
        ("power", print("9 ** 9 ** 9 ** 9".into())),
        ("json indent", print("[1]|tojson(indent=100000000000)".into())),
        ("date", print("strftime_now('%999999999d')".into())),
        ("long date", print("strftime_now('%Y' * 9999)".into())),
        // Growth.
        ("double", grow("'0123456789abcdef'", "ns.s ~ ns.s", 40, "ns.s|length")),
        ("add", grow("'0123456789abcdef'", "ns.s + ns.s", 40, "ns.s|length")),
        ("lists", grow("[1]", "ns.s + ns.s", 40, "ns.s|length")),
        ("tuples", grow("(1,)", "ns.s + ns.s", 40, "ns.s|length")),
        ("replace", grow("'aa'", "ns.s.replace('a', ns.s)", 10, "ns.s|length")),
        ("replace nothing", grow("'aa'", "ns.s|replace('', ns.s)", 10, "ns.s|length")),
        ("join", grow("'aa'", "ns.s.join([ns.s, ns.s, ns.s])", 60, "ns.s|length")),
        ("join filter", grow("'aa'", "ns.s|join(ns.s)", 60, "ns.s|length")),
        ("format", grow("'aa'", "'%s%s' % (ns.s, ns.s)", 60, "ns.s|length")),
        ("braces format", grow("'aa'", "'{0}{0}'.format(ns.s)", 60, "ns.s|length")),
        ("escape", grow("'&'", "ns.s|e|e|e|e|e|e|e|e|e|e|e", 9999, "ns.s|length")),
        ("json text", grow("'\\\\'", "ns.s|tojson", 60, "ns.s|length")),
        ("json wide", grow("[1]", "[ns.s, ns.s]", 60, "ns.s|tojson|length")),
        ("written wide", grow("[1]", "[ns.s, ns.s]", 60, "ns.s|string|length")),
        ("compared wide", grow("[1]", "[ns.s, ns.s]", 60, "ns.s == ns.s")),
        ("sum", grow("[[1]]", "[ns.s|sum(start=[])] * 9", 60, "ns.s|length")),
        ("slices", grow("[1, 2]", "ns.s[:] + ns.s[::-1]", 60, "ns.s|length")),
        ("splits", grow("'a a '", "(ns.s.split() + ns.s.split())|join(' ')", 60, "ns.s|length")),
        ("lines", grow("'a\\nb'", "ns.s|indent(1000)", 99999, "ns.s|length")),
        ("dict", grow("{'a': 1}", "dict([(ns.s|string, ns.s|string)])", 99, "ns.s|length")),
        ("upper", grow("'ß'", "ns.s.upper() + ns.s.upper()", 60, "ns.s|length")),
        ("map", grow("[1]", "ns.s|map('string')|list + ns.s", 60, "ns.s|length")),
        ("output", "{% for a in range(99999) %}{% for b in range(9) %}0123456789{% endfor %}{% endfor %}".into()),
        ("captured", "{% set x %}{% for a in range(99999) %}{{ '0123456789' * 99 }}{% endfor %}{% endset %}".into()),
        // Depth.
        ("nest", grow("[]", "[ns.s]", 100_000, "ns.s|tojson|length")),
        ("nest and drop", grow("[]", "[ns.s]", 99_999, "1")),
        ("nest dicts", grow("{}", "{'a': ns.s}", 99_999, "1")),
        ("nest tuples", grow("()", "(ns.s,)", 99_999, "1")),
        ("nest items", grow("[]", "{'a': ns.s}.items()|list", 99_999, "1")),
        ("nest batches", grow("[]", "ns.s|batch(1)|list or [1]", 99_999, "1")),
        ("nest namespaces", grow("1", "namespace(a=ns)", 99_999, "1")),
        ("a circle", "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns.a }}".into()),
        ("recursion", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into()),
        ("mutual recursion", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}".into()),
        ("wide recursion", format!("{{% macro m(a={0}) %}}{{{{ m() ~ m() }}}}{{% endmacro %}}{{{{ m() }}}}", around("[", "1", "]", 50))),
        ("caller", "{% macro m() %}{{ caller() }}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{% call m() %}{{ m() }}{% endcall %}".into()),
        ("recursive loop", "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".into()),
        ("map of maps", print(format!("[1]|map({} 'string')|list", "'map', ".repeat(250)))),
        // Time.
        ("loops in loops", "{% for a in range(99999) %}{% for a in range(99999) %}{% endfor %}{% endfor %}".into()),
        ("sorts", "{% set x = range(100000)|list %}{% for i in range(1000) %}{% set y = x|sort %}{% endfor %}".into()),
        ("replaces", grow("'a'", "ns.s ~ ns.s", 20, "1").replace("{{ 1 }}", "{% for i in range(1000) %}{% set y = ns.s.replace('a','b') %}{% endfor %}")),
        ("searches", grow("'a'", "ns.s ~ ns.s", 20, "1").replace("{{ 1 }}", "{% for i in range(99999) %}{% set y = 'b' in ns.s %}{% endfor %}")),
        ("lengths", grow("'a'", "ns.s ~ ns.s", 20, "1").replace("{{ 1 }}", "{% for i in range(99999) %}{% set y = ns.s|length %}{% endfor %}")),
        ("strips", grow("'a'", "ns.s ~ ns.s", 20, "1").replace("{{ 1 }}", "{% for i in range(99999) %}{% set y = ns.s.strip('a') %}{% endfor %}")),
        ("indices", grow("'a'", "ns.s ~ ns.s", 20, "1").replace("{{ 1 }}", "{% for c in ns.s %}{{ loop.previtem }}{% endfor %}")),
        ("unique", print("range(100000)|list|unique|list|length".into())),
        ("group", print("range(100000)|map('string')|groupby('a')|length".into())),
        ("in", "{% set x = range(100000)|list %}{% for i in x %}{{ -1 in x }}{% endfor %}".into()),
        ("names", (0..9000).map(|i| format!("{{% set x{i} = 1 %}}")).collect::<String>() + "{% for i in range(99999) %}{{ zz }}{% endfor %}"),
        ("empty repeats", "{% for i in range(99999) %}{{ [] * 9223372036854775807 }}{{ '' * 9223372036854775807 }}{% for j in range(999) %}{% endfor %}{% endfor %}".into()),
        ("many macros", "{% for i in range(99999) %}{% for i in range(99999) %}{% macro m() %}{% endmacro %}{% endfor %}{% endfor %}".into()),
        ("unordered", print("([0.0, (1e308 * 10 - 1e308 * 10)] * 400)|sort|length".into()) + "{{ 1/0 }}"),
    ];
    let long = "x".repeat(300 << 10);
    all.push(("too long", long));
    all
}

fn attempt(source: &str) -> Result<String, Error> {
    let messages = [Message::new("user", "Hello"), Message::new("assistant", "Yes")];
    let chat = ChatTemplate::new(source, "<s>", "</s>")?.with_date_of_today();
    chat.render(&messages, GenerationPrompt::Add).map(String::from)
}

#[test]
fn hostile_templates_end_in_time_and_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wrong = Vec::new();
    for (name, source) in hostile() {
        let (before, start) = (HELD.load(Ordering::Relaxed), Instant::now());
        PEAK.store(before, Ordering::Relaxed);
        let result = attempt(&source);
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        let took = start.elapsed();
        println!("{name}: {took:?}, {} KiB: {:?}", peak >> 10, result.as_ref().map(String::len));
        if result.is_ok() || took > TIME || peak > MEMORY {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn limits_are_named_with_their_numbers() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, expected) in [
        ("attributes", "4096 tokens in one tag"),
        ("elif", "512 `elif` of one `if`"),
        ("deep brackets", "64 brackets and blocks in each other"),
        ("blocks", "64 brackets and blocks in each other"),
        ("repeat a list", "bytes of text and lists"),
        ("nest", "64 lists in each other"),
        ("recursion", "320 levels of evaluation"),
        ("loops in loops", "steps"),
        ("indent", "1024 characters of width or precision"),
        ("range", "100000 elements of range()"),
    ] {
        let (_, source) = hostile().into_iter().find(|(found, _)| *found == name).unwrap();
        let error = attempt(&source).unwrap_err();
        assert!(
            matches!(&error, Error::Unbounded { reason } if reason.contains(expected)),
            "{name}: {error}"
        );
    }
}

/// Set in the process that renders, with the name of the template.
const CHILD: &str = "POLYCHORD_HOSTILE_TEMPLATE";

#[test]
fn hostile_templates_do_not_end_the_process() {
    if let Ok(name) = std::env::var(CHILD) {
        for (_, source) in hostile().into_iter().filter(|(found, _)| name == "*" || *found == name)
        {
            // A caller with a small stack, as a server's threads may have.
            let small = std::thread::Builder::new().stack_size(256 << 10);
            let ended = small.spawn(move || attempt(&source).is_err()).unwrap().join();
            assert!(ended.unwrap());
        }
        return;
    }
    let run = |name: &str| {
        let program = std::env::current_exe().unwrap();
        let test = "hostile_templates_do_not_end_the_process";
        let mut command = if cfg!(target_os = "linux") {
            let mut shell = Command::new("sh");
            shell.args(["-c", "ulimit -v 400000; exec \"$0\" \"$@\""]).arg(program);
            shell
        } else {
            Command::new(program)
        };
        command.args(["--exact", test, "--test-threads", "1"]).env(CHILD, name).output().unwrap()
    };
    let output = run("*");
    if !output.status.success() {
        let names = hostile().into_iter().map(|(name, _)| name);
        let bad: Vec<_> = names.filter(|name| !run(name).status.success()).collect();
        panic!("{bad:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn chains_that_are_allowed_need_no_stack() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let chain = |start: &str, link: &str| format!("{{{{ {start}{} }}}}", link.repeat(1_000));
    for (source, expected) in [
        (chain("1", "+1"), Some("1001")),
        (chain("'a'", "|upper"), Some("A")),
        (chain("0", " or 0"), Some("0")),
        (chain("", "not ").replace("not  }}", "not 1 }}"), Some("True")),
        (chain("a", ".a"), None),
    ] {
        let small = std::thread::Builder::new().stack_size(128 << 10);
        let found = small.spawn(move || attempt(&source)).unwrap().join().unwrap();
        assert_eq!(found.as_deref().ok(), expected, "{found:?}");
    }
}

#[test]
fn long_conversations_are_within_the_bounds() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let source = "{% for m in messages %}{% set c = m.content.strip() | replace('a', 'b') %}{{ '<|' + m.role + '|>' + c ~ eos_token + '\n' }}{% endfor %}";
    let chat = ChatTemplate::new(source, "", "</s>").unwrap();
    let messages: Vec<_> =
        (0..2000).map(|i| Message::new("user", "word ".repeat(i % 300))).collect();
    let text = chat.render(&messages, GenerationPrompt::Omit).unwrap();
    assert!(text.as_str().len() > 1_400_000, "{}", text.as_str().len());
    let long = [Message::new("user", "o 日本 ".repeat(1 << 20))];
    assert!(chat.render(&long, GenerationPrompt::Omit).unwrap().as_str().len() > 8 << 20);
}
