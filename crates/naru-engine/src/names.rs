//! Names for containers that were given none: an adjective and a river, a boat or a harbour of Korea.
//!
//! A naru is a river crossing; the lists are our own.

const FIRST: [&str; 64] = [
    "amber", "ample", "azure", "balmy", "brave", "breezy", "bright", "brisk", "calm", "candid", "clear",
    "cosy", "crisp", "dapper", "deep", "dewy", "eager", "early", "easy", "fair", "fleet", "fluent", "fond",
    "fresh", "gentle", "gliding", "golden", "hardy", "hazy", "jolly", "keen", "kind", "lively", "lucid",
    "lunar", "mellow", "merry", "misty", "modest", "neat", "nimble", "noble", "placid", "polite", "proud",
    "quick", "quiet", "ready", "serene", "silver", "smooth", "snug", "solid", "steady", "sunny", "swift",
    "tidal", "tidy", "tranquil", "upbeat", "vivid", "warm", "wise", "witty",
];

const SECOND: [&str; 64] = [
    "anyang",
    "baengnyeong",
    "bokcheon",
    "bukhan",
    "byeolbae",
    "cheongcho",
    "cheonggye",
    "daedong",
    "daeho",
    "daru",
    "dokdo",
    "donggang",
    "donghae",
    "dotbae",
    "dumulmeori",
    "gahwa",
    "gaya",
    "geobukseon",
    "geoje",
    "geum",
    "gwangnaru",
    "gyeongan",
    "haeundae",
    "han",
    "hantan",
    "hongcheon",
    "hwangpo",
    "hwaseong",
    "imjin",
    "incheon",
    "jeju",
    "jojong",
    "jungnang",
    "mangyeong",
    "mangwon",
    "mapo",
    "mokpo",
    "mulgyeol",
    "nakdong",
    "naerin",
    "naksan",
    "namdae",
    "namhan",
    "narutbae",
    "noryang",
    "odae",
    "panokseon",
    "pohang",
    "pungdo",
    "samnang",
    "seomjin",
    "seonyu",
    "sokcho",
    "songpa",
    "soyang",
    "tamjin",
    "tancheon",
    "taehwa",
    "tongyeong",
    "ttukseom",
    "ulleung",
    "wando",
    "yeongsan",
    "yeouido",
];

/// The name that eight random bytes stand for. `attempt` > 0: a digit is added, as the plain one was taken.
pub fn name(bytes: [u8; 8], attempt: u32) -> String {
    let first = FIRST[usize::from(bytes[0]) % FIRST.len()];
    let second = SECOND[usize::from(bytes[1]) % SECOND.len()];
    if attempt == 0 {
        return format!("{first}_{second}");
    }
    let number = u16::from_le_bytes([bytes[2], bytes[3]]) % 1000;
    format!("{first}_{second}{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_valid() {
        for first in 0..64 {
            for second in 0..64 {
                let name = name([first, second, 7, 0, 0, 0, 0, 0], u32::from(first % 2));
                assert!(naru_types::id::is_valid_name(&name, 2), "{name}");
            }
        }
        assert_eq!(name([0, 0, 7, 0, 0, 0, 0, 0], 1), "amber_anyang7");
    }
}
