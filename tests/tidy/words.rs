//! Plain English, and one word per concept: words that code and pages must not use. The glossary has the right ones.

use regex::Regex;

use super::tree::{Source, files, read};

/// Banned words, each with what to write instead.
const BANNED: [(&str, &str); 27] = [
    (r"\bnobody\b", "no one, or name who"),
    (r"\bsomebody\b", "a person, or name who"),
    (r"\bwhoever\b", "anyone who"),
    (r"\banew\b", "again"),
    (r"\bso that\b", "so, or to"),
    (r"\bhand(?:s|ed|ing)? over\b", "pass, send, deliver"),
    (r"\bhand-over\b", "delivery"),
    (r"\btake leave\b", "disconnect"),
    (r"\bthat there is\b", "another sentence"),
    (r"\bno one's\b", "not ours, of no person"),
    (r"\bfor want of\b", "without, for lack of"),
    (r"\bmended\b", "fixed"),
    (r"\bprolong", "renew"),
    (r"\bfor ever\b", "forever"),
    (r"\bsilence limit", "idle limit"),
    (r"\b[Ff]rontier", "watermark"),
    (r"\b[Rr]ulebook", "policy"),
    (r"\b[Rr]ecollection", "session state"),
    (r"\b[Kk]eepsake", "session file"),
    (r"\b[Gg]roundwork", "prepared"),
    (r"\bSurroundings\b", "context"),
    (r"\bDoorkeeper\b", "site admission"),
    (r"\b[Ii]nlets?\b", "input"),
    (r"\bAllowance\b", "rate limit"),
    (r"\bdeaf\b", "without coverage"),
    (r"\b(?:hearing|ears?)\b", "coverage"),
    (r"\b1 (?:days|hours|minutes|seconds|people|messages)\b", "the singular"),
];

#[test]
fn banned_words_stay_out() {
    let banned = BANNED.map(|(word, instead)| (Regex::new(&format!("(?i){word}")).expect("a pattern"), instead));
    // One pattern for all words first, because most lines contain none of them.
    let any = BANNED.map(|(word, _)| word).join("|");
    let any = Regex::new(&format!("(?i){any}")).expect("a pattern");
    let pages = ["config", "systemd", "src", "tests"].into_iter().flat_map(files);
    let readme = Source { name: "README.md".to_owned(), text: read("README.md") };
    let mut found = Vec::new();
    for page in pages.chain([readme]) {
        // Skip this list, the table of foreign words, and migrations, which cannot change once shipped.
        let quotes = page.name == "tests/tidy/words.rs" || page.name == "src/docs/glossary.md";
        if quotes
            || page.name.starts_with("src/store/migrations/")
            || page.name.starts_with("tests/regressions/")
            || page.name == "tests/fuzz/Cargo.lock"
        {
            continue;
        }
        for (number, line) in page.text.lines().enumerate() {
            // Exempt: a quality of service, the word that the log stores, and the account of that name.
            let exempt = ["QoS 1", "names_nobody", "=nobody", "`nobody`", "\"nobody\""];
            if exempt.iter().any(|known| line.contains(known)) {
                continue;
            }
            // The names of functions and tests are words too.
            let spaced = line.replace('_', " ");
            if !any.is_match(&spaced) {
                continue;
            }
            for (word, instead) in &banned {
                if let Some(word) = word.find(&spaced) {
                    found.push(format!("{}:{}: \"{}\": write {instead}", page.name, number + 1, word.as_str()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} banned words:\n{}", found.len(), found.join("\n"));
}
