//! Mutated Dockerfiles: whatever the text, the parser answers and never panics.

use super::expand::{expand, expand_text, expand_words};
use super::parse::parse;
use naru_types::dockerignore::Ignore;

const SEEDS: [&str; 4] = [
    "# escape=`\nARG V=1\nFROM a:${V:-x} AS b\nRUN --mount=type=cache,target=/x,id=y <<-EOF cat\n\t$V\n\tEOF\nCOPY --from=b [\"a b\", \"c\"]\n",
    "FROM a\nENV a=\"b $c\" d='e' f=\\\"\nLABEL x y z\nHEALTHCHECK --interval=5s --retries=3 CMD [\"a\"]\nONBUILD COPY <<X <<'Y' /\n1\nX\n2\nY\n",
    "FROM a\nEXPOSE 80-81/udp $P\nSHELL [\"sh\"]\nVOLUME /a /b\nSTOPSIGNAL 9\nUSER a:b\nWORKDIR /한국\nADD --chmod=755 x \\\n # c\n y /z/\n",
    "${a:-${b##*.}} ${c//x/y} \"$d\" 'e' \\$f ${g:?h} **/[a-z]?*.x !y",
];

/// xorshift64: the same texts on every run.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

#[test]
fn nothing_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let pieces: Vec<char> = "\\\n\t $'\"{}[]<>-=:/#%?*!`,A0é\u{feff}\r".chars().collect();
    for round in 0..20_000 {
        let mut text: Vec<char> = SEEDS[round % SEEDS.len()].chars().collect();
        for _ in 0..=random(&mut state) % 6 {
            let at = random(&mut state) % text.len().max(1);
            let piece = pieces[random(&mut state) % pieces.len()];
            match random(&mut state) % 4 {
                0 if at < text.len() => text[at] = piece,
                1 => text.insert(at.min(text.len()), piece),
                2 if text.len() > 2 => drop(text.remove(at)),
                _ => text.truncate(at.max(2)),
            }
        }
        let text: String = text.into_iter().collect();
        let lookup = |name: &str| (name.len() == 1).then(|| "a.b c".to_owned());
        let _ = (parse("Dockerfile", &text), Ignore::parse(&text));
        let _ = (
            expand(&text, '\\', &lookup),
            expand_words(&text, '`', &lookup),
            expand_text(&text, '\\', &lookup),
        );
    }
}
