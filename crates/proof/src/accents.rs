//! Letters that Unicode can write in two ways: as one character (`é`), or as a letter and a combining mark. They look the same.

/// The marks, each by the digit or letter that stands for it in [`PAIRS`].
const MARKS: &[char] = &[
    '\u{300}', '\u{301}', '\u{302}', '\u{303}', '\u{304}', '\u{306}', '\u{307}', '\u{308}', '\u{309}', '\u{30a}',
    '\u{30b}', '\u{30c}', '\u{30f}', '\u{311}', '\u{313}', '\u{314}', '\u{31b}', '\u{323}', '\u{324}', '\u{325}',
    '\u{326}', '\u{327}', '\u{328}', '\u{32d}', '\u{32e}', '\u{330}', '\u{331}', '\u{342}', '\u{345}', '\u{3099}',
    '\u{309a}',
];

/// Threes: the one character, the letter, and its mark (`0` to `9`, then `A` onward). Latin, Greek and Cyrillic letters and Kana; what
/// is composed of composed letters is here step by step. The syllables of Hangul are computed.
const PAIRS: &str = "\
    ÀA0ÁA1ÂA2ÃA3ÄA7ÅA9ÇCLÈE0ÉE1ÊE2ËE7ÌI0ÍI1ÎI2ÏI7ÑN3ÒO0ÓO1ÔO2ÕO3ÖO7ÙU0ÚU1ÛU2ÜU7ÝY1àa0áa1âa2ãa3äa7åa9çcLèe0ée1êe2\
     ëe7ìi0íi1îi2ïi7ñn3òo0óo1ôo2õo3öo7ùu0úu1ûu2üu7ýy1ÿy7ĀA4āa4ĂA5ăa5ĄAMąaMĆC1ćc1ĈC2ĉc2ĊC6ċc6ČCBčcBĎDBďdBĒE4ēe4ĔE5\
     ĕe5ĖE6ėe6ĘEMęeMĚEBěeBĜG2ĝg2ĞG5ğg5ĠG6ġg6ĢGLģgLĤH2ĥh2ĨI3ĩi3ĪI4īi4ĬI5ĭi5ĮIMįiMİI6ĴJ2ĵj2ĶKLķkLĹL1ĺl1ĻLLļlLĽLBľlB\
     ŃN1ńn1ŅNLņnLŇNBňnBŌO4ōo4ŎO5ŏo5ŐOAőoAŔR1ŕr1ŖRLŗrLŘRBřrBŚS1śs1ŜS2ŝs2ŞSLşsLŠSBšsBŢTLţtLŤTBťtBŨU3ũu3ŪU4ūu4ŬU5ŭu5\
     ŮU9ůu9ŰUAűuAŲUMųuMŴW2ŵw2ŶY2ŷy2ŸY7ŹZ1źz1ŻZ6żz6ŽZBžzBƠOGơoGƯUGưuGǍABǎaBǏIBǐiBǑOBǒoBǓUBǔuBǕÜ4ǖü4ǗÜ1ǘü1ǙÜBǚüBǛÜ0\
     ǜü0ǞÄ4ǟä4ǠȦ4ǡȧ4ǢÆ4ǣæ4ǦGBǧgBǨKBǩkBǪOMǫoMǬǪ4ǭǫ4ǮƷBǯʒBǰjBǴG1ǵg1ǸN0ǹn0ǺÅ1ǻå1ǼÆ1ǽæ1ǾØ1ǿø1ȀACȁaCȂADȃaDȄECȅeCȆEDȇeD\
     ȈICȉiCȊIDȋiDȌOCȍoCȎODȏoDȐRCȑrCȒRDȓrDȔUCȕuCȖUDȗuDȘSKșsKȚTKțtKȞHBȟhBȦA6ȧa6ȨELȩeLȪÖ4ȫö4ȬÕ4ȭõ4ȮO6ȯo6ȰȮ4ȱȯ4ȲY4ȳy4\
     ΆΑ1ΈΕ1ΉΗ1ΊΙ1ΌΟ1ΎΥ1ΏΩ1ΐϊ1ΪΙ7ΫΥ7άα1έε1ήη1ίι1ΰϋ1ϊι7ϋυ7όο1ύυ1ώω1ϓϒ1ϔϒ7ЀЕ0ЁЕ7ЃГ1ЇІ7ЌК1ЍИ0ЎУ5ЙИ5йи5ѐе0ёе7ѓг1їі7ќк1\
     ѝи0ўу5ѶѴCѷѵCӁЖ5ӂж5ӐА5ӑа5ӒА7ӓа7ӖЕ5ӗе5ӚӘ7ӛә7ӜЖ7ӝж7ӞЗ7ӟз7ӢИ4ӣи4ӤИ7ӥи7ӦО7ӧо7ӪӨ7ӫө7ӬЭ7ӭэ7ӮУ4ӯу4ӰУ7ӱу7ӲУAӳуAӴЧ7ӵч7\
     ӸЫ7ӹы7ḀAJḁaJḂB6ḃb6ḄBHḅbHḆBQḇbQḈÇ1ḉç1ḊD6ḋd6ḌDHḍdHḎDQḏdQḐDLḑdLḒDNḓdNḔĒ0ḕē0ḖĒ1ḗē1ḘENḙeNḚEPḛePḜȨ5ḝȩ5ḞF6ḟf6ḠG4ḡg4\
     ḢH6ḣh6ḤHHḥhHḦH7ḧh7ḨHLḩhLḪHOḫhOḬIPḭiPḮÏ1ḯï1ḰK1ḱk1ḲKHḳkHḴKQḵkQḶLHḷlHḸḶ4ḹḷ4ḺLQḻlQḼLNḽlNḾM1ḿm1ṀM6ṁm6ṂMHṃmHṄN6ṅn6\
     ṆNHṇnHṈNQṉnQṊNNṋnNṌÕ1ṍõ1ṎÕ7ṏõ7ṐŌ0ṑō0ṒŌ1ṓō1ṔP1ṕp1ṖP6ṗp6ṘR6ṙr6ṚRHṛrHṜṚ4ṝṛ4ṞRQṟrQṠS6ṡs6ṢSHṣsHṤŚ6ṥś6ṦŠ6ṧš6ṨṢ6ṩṣ6\
     ṪT6ṫt6ṬTHṭtHṮTQṯtQṰTNṱtNṲUIṳuIṴUPṵuPṶUNṷuNṸŨ1ṹũ1ṺŪ7ṻū7ṼV3ṽv3ṾVHṿvHẀW0ẁw0ẂW1ẃw1ẄW7ẅw7ẆW6ẇw6ẈWHẉwHẊX6ẋx6ẌX7ẍx7\
     ẎY6ẏy6ẐZ2ẑz2ẒZHẓzHẔZQẕzQẖhQẗt7ẘw9ẙy9ẛſ6ẠAHạaHẢA8ảa8ẤÂ1ấâ1ẦÂ0ầâ0ẨÂ8ẩâ8ẪÂ3ẫâ3ẬẠ2ậạ2ẮĂ1ắă1ẰĂ0ằă0ẲĂ8ẳă8ẴĂ3ẵă3ẶẠ5\
     ặạ5ẸEHẹeHẺE8ẻe8ẼE3ẽe3ẾÊ1ếê1ỀÊ0ềê0ỂÊ8ểê8ỄÊ3ễê3ỆẸ2ệẹ2ỈI8ỉi8ỊIHịiHỌOHọoHỎO8ỏo8ỐÔ1ốô1ỒÔ0ồô0ỔÔ8ổô8ỖÔ3ỗô3ỘỌ2ộọ2ỚƠ1\
     ớơ1ỜƠ0ờơ0ỞƠ8ởơ8ỠƠ3ỡơ3ỢƠHợơHỤUHụuHỦU8ủu8ỨƯ1ứư1ỪƯ0ừư0ỬƯ8ửư8ỮƯ3ữư3ỰƯHựưHỲY0ỳy0ỴYHỵyHỶY8ỷy8ỸY3ỹy3ἀαEἁαFἂἀ0ἃἁ0ἄἀ1\
     ἅἁ1ἆἀRἇἁRἈΑEἉΑFἊἈ0ἋἉ0ἌἈ1ἍἉ1ἎἈRἏἉRἐεEἑεFἒἐ0ἓἑ0ἔἐ1ἕἑ1ἘΕEἙΕFἚἘ0ἛἙ0ἜἘ1ἝἙ1ἠηEἡηFἢἠ0ἣἡ0ἤἠ1ἥἡ1ἦἠRἧἡRἨΗEἩΗFἪἨ0ἫἩ0ἬἨ1\
     ἭἩ1ἮἨRἯἩRἰιEἱιFἲἰ0ἳἱ0ἴἰ1ἵἱ1ἶἰRἷἱRἸΙEἹΙFἺἸ0ἻἹ0ἼἸ1ἽἹ1ἾἸRἿἹRὀοEὁοFὂὀ0ὃὁ0ὄὀ1ὅὁ1ὈΟEὉΟFὊὈ0ὋὉ0ὌὈ1ὍὉ1ὐυEὑυFὒὐ0ὓὑ0ὔὐ1\
     ὕὑ1ὖὐRὗὑRὙΥFὛὙ0ὝὙ1ὟὙRὠωEὡωFὢὠ0ὣὡ0ὤὠ1ὥὡ1ὦὠRὧὡRὨΩEὩΩFὪὨ0ὫὩ0ὬὨ1ὭὩ1ὮὨRὯὩRὰα0ὲε0ὴη0ὶι0ὸο0ὺυ0ὼω0ᾀἀSᾁἁSᾂἂSᾃἃSᾄἄSᾅἅS\
     ᾆἆSᾇἇSᾈἈSᾉἉSᾊἊSᾋἋSᾌἌSᾍἍSᾎἎSᾏἏSᾐἠSᾑἡSᾒἢSᾓἣSᾔἤSᾕἥSᾖἦSᾗἧSᾘἨSᾙἩSᾚἪSᾛἫSᾜἬSᾝἭSᾞἮSᾟἯSᾠὠSᾡὡSᾢὢSᾣὣSᾤὤSᾥὥSᾦὦSᾧὧSᾨὨSᾩὩS\
     ᾪὪSᾫὫSᾬὬSᾭὭSᾮὮSᾯὯSᾰα5ᾱα4ᾲὰSᾳαSᾴάSᾶαRᾷᾶSᾸΑ5ᾹΑ4ᾺΑ0ᾼΑS῁¨RῂὴSῃηSῄήSῆηRῇῆSῈΕ0ῊΗ0ῌΗS῍᾿0῎᾿1῏᾿Rῐι5ῑι4ῒϊ0ῖιRῗϊRῘΙ5ῙΙ4\
     ῚΙ0῝῾0῞῾1῟῾Rῠυ5ῡυ4ῢϋ0ῤρEῥρFῦυRῧϋRῨΥ5ῩΥ4ῪΥ0ῬΡF῭¨0ῲὼSῳωSῴώSῶωRῷῶSῸΟ0ῺΩ0ῼΩSがかTぎきTぐくTげけTごこTざさTじしTずすTぜせTぞそTだたTぢちT\
     づつTでてTどとTばはTぱはUびひTぴひUぶふTぷふUべへTぺへUぼほTぽほUゔうTゞゝTガカTギキTグクTゲケTゴコTザサTジシTズスTゼセTゾソTダタTヂチTヅツTデテTドトTバハTパハUビヒTピヒUブフTプフU\
     ベヘTペヘUボホTポホUヴウTヷワTヸヰTヹヱTヺヲTヾヽT";

/// The first syllable of Hangul, and the first of each kind of its parts.
const HANGUL: (u32, u32, u32, u32) = (0xac00, 0x1100, 0x1161, 0x11a7);
/// How many vowels and ends there are.
const KINDS: (u32, u32) = (21, 28);

fn pairs() -> impl Iterator<Item = (char, char, char)> {
    let mut chars = PAIRS.chars();
    std::iter::from_fn(move || {
        let (one, letter, code) = (chars.next()?, chars.next()?, chars.next()?);
        let at = if code.is_ascii_digit() { code as usize - '0' as usize } else { code as usize - 'A' as usize + 10 };
        Some((one, letter, *MARKS.get(at)?))
    })
}

/// Whether a character could be in [`PAIRS`]: most that are not are known at a glance.
fn is_near(c: char) -> bool {
    matches!(c, '\u{c0}'..='\u{4ff}' | '\u{1e00}'..='\u{1fff}' | '\u{3041}'..='\u{30ff}')
}

/// The name with each such letter as a letter and its marks.
pub fn decomposed(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    name.chars().for_each(|c| decompose(c, &mut out));
    out
}

fn decompose(c: char, out: &mut String) {
    let (first, initial, vowel, end) = HANGUL;
    let (vowels, ends) = KINDS;
    let syllable = (c as u32).checked_sub(first).filter(|at| *at < 19 * vowels * ends);
    if let Some(at) = syllable {
        let parts = [initial + at / ends / vowels, vowel + at / ends % vowels, end + at % ends];
        let count = if at % ends == 0 { 2 } else { 3 };
        out.extend(parts.iter().take(count).filter_map(|part| char::from_u32(*part)));
        return;
    }
    match Some(c).filter(|c| is_near(*c)).and_then(|c| pairs().find(|(one, ..)| *one == c)) {
        Some((_, letter, mark)) => {
            decompose(letter, out);
            out.push(mark);
        }
        None => out.push(c),
    }
}

/// The name with each letter and the marks after it as one character, as far as there is one.
pub fn composed(name: &str) -> String {
    let mut out: Vec<char> = Vec::new();
    for c in decomposed(name).chars() {
        match out.last().and_then(|before| compose(*before, c)) {
            Some(one) => _ = out.pop().map(|_| out.push(one)),
            None => out.push(c),
        }
    }
    out.into_iter().collect()
}

fn compose(before: char, c: char) -> Option<char> {
    let (first, initial, vowel, end) = HANGUL;
    let (vowels, ends) = KINDS;
    let (before_at, at) = (before as u32, c as u32);
    if (initial..initial + 19).contains(&before_at) && (vowel..vowel + vowels).contains(&at) {
        return char::from_u32(first + ((before_at - initial) * vowels + at - vowel) * ends);
    }
    let open = before_at.checked_sub(first).is_some_and(|s| s < 19 * vowels * ends && s % ends == 0);
    if open && (end + 1..end + ends).contains(&at) {
        return char::from_u32(before_at + at - end);
    }
    if !MARKS.contains(&c) {
        return None;
    }
    pairs().find(|(_, letter, mark)| *letter == before && *mark == c).map(|(one, ..)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_becomes_the_other() {
        for (one, two) in [
            ("éva", "e\u{301}va"),
            ("Müller", "Mu\u{308}ller"),
            ("Nguyễn", "Nguye\u{302}\u{303}n"),
            ("Ιωάννης", "Ιωα\u{301}ννης"),
            ("Йодль", "И\u{306}одль"),
            ("がぎ", "か\u{3099}き\u{3099}"),
            ("한국", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}"),
            ("P-1", "P-1"),
            ("田中", "田中"),
        ] {
            assert_eq!((decomposed(one).as_str(), composed(two).as_str()), (two, one));
            assert_eq!((decomposed(two).as_str(), composed(one).as_str()), (two, one));
        }
        assert_eq!(pairs().count() * 3, PAIRS.chars().count(), "each mark is known");
    }

    /// The table against the library that everybody uses, for every character: what this module changes, it changes as Unicode says,
    /// and of the letters that it is made for none is missing.
    #[test]
    fn it_is_what_unicode_says() {
        use unicode_normalization::UnicodeNormalization;
        let mut other = 0;
        for c in '\u{0}'..=char::MAX {
            let name = c.to_string();
            let (apart, whole): (String, String) = (name.nfd().collect(), name.nfc().collect());
            if decomposed(&name) == name && apart != name {
                other += 1;
                assert!(!is_near(c) || !c.is_alphabetic() || whole != name, "{c:?} is one of those letters");
                continue;
            }
            assert_eq!(decomposed(&name), apart, "{c:?}");
            assert_eq!(composed(&apart), whole, "{c:?}");
        }
        println!("{other} characters have another form that is not looked for");
    }
}
