//! What detectors find in texts: each kind in the forms that people write, and texts that only look like it.

use attestlog::json::Json;
use attestlog::redact::{Policy, Sanitizer, Secrets, dry_run};

/// The text that is left, and the detectors that found something in it.
fn treat(text: &str) -> (String, Vec<String>) {
    let sanitizer = Sanitizer::new(&Policy::default(), Secrets::default()).unwrap();
    let (out, treated) = dry_run(&sanitizer, Json::from(text)).unwrap();
    (out.as_str().unwrap_or_default().to_owned(), treated.into_iter().map(|t| t.detector).collect())
}

/// Each template with the value in place of `{}`: found as `kind`, with nothing of it left.
#[track_caller]
fn finds(kind: &str, cases: &[(&str, &str)]) {
    for (template, value) in cases {
        let text = template.replace("{}", value);
        let (left, found) = treat(&text);
        assert!(found.iter().any(|f| f == kind), "{text:?}: {found:?}");
        let wanted = template.replace("{}", &format!("[REDACTED:{kind}]"));
        assert_eq!(left, wanted, "{text:?}");
    }
}

#[test]
fn phones_of_many_countries() {
    finds(
        "phone",
        &[
            ("call {}", "+1 (415) 555-2671"),
            ("{}", "+44 20 7946 0958"),
            ("{}", "(+351).720.888.204"),
            ("{}", "+30.957.715.421"),
            ("dial {} now", "0049 30 901820"),
            ("Telefon: {}", "030 901820"),
            ("Handy {}", "00380693385383"),
            ("appelez le {}", "478 35 337"),
            ("appelez le {}", "01 23 45 67 89"),
            ("Rufen Sie {} an", "500 08 06"),
            ("T: {}", "2740 068124"),
            ("Mob: {}", "5859981015"),
            ("{} is my number", "985 95 748"),
            ("tel. {}, fax later", "212.555.0187"),
            ("{}", "212/555-0187"),
            ("reach me: {}", "(03).2468.2034"),
            ("ring {}", "(212) 555-0187 #3571"),
            ("ring {}", "212-555-0187 ext. 12"),
            ("ring {}", "212-555-0187x12"),
            ("hotline {} (24h)", "986 03 95"),
            ("my number is {}", "4225400826"),
            ("电话：{}", "13912345678"),
            ("тел. {}", "8 495 123-45-67"),
        ],
    );
}

#[test]
fn cards_ssns_ibans() {
    finds(
        "card",
        &[
            ("paid with {} today", "4111111111111111"),
            ("({})", "4111 1111 1111 1111"),
            ("{}", "4111-1111-1111-1111"),
            ("{}", "4111.1111.1111.1111"),
            ("{}", "4111 1111-1111 1111"),
            ("{}", "3782 822463 10005"),
            ("{}USD", "4111111111111111"),
            ("{}", "6200000000000000000"),
        ],
    );
    finds(
        "ssn",
        &[
            ("{}", "460-89-9847"),
            ("ssn {}", "460899847"),
            ("SSN: {}", "460.89.9847"),
            ("her social security number is {}", "460 89 9847"),
            ("{}", "460–89–9847"),
        ],
    );
    finds(
        "iban",
        &[
            ("{}", "DE89370400440532013000"),
            ("pay to {}.", "de89 3704 0044 0532 0130 00"),
            ("{}", "GB82-WEST-1234-5698-7654-32"),
            ("IBAN {}", "DE89 3704 0044 0532 0130 01"),
        ],
    );
}

#[test]
fn addresses() {
    finds(
        "email",
        &[
            ("to {}.", "jane.roe+news@mail.example.co.uk"),
            ("{}", "jürgen@münchen.de"),
            ("<{}>", "用户@例え.jp"),
            ("cc:{}", "\"jane roe\"@example.org"),
            ("{}", "root@[192.0.2.1]"),
            ("{}", "jane%40example.org"),
            ("mailto:{}", "o'neil@xn--mnchen-3ya.de"),
        ],
    );
    finds(
        "ip",
        &[
            ("from {}", "203.0.113.77"),
            ("{}:8080", "203.0.113.77"),
            ("[{}]:443", "2001:db8::8a2e:370:7334"),
            ("{}", "2001:DB8:0:0:8D3:0:0:1"),
            ("{}", "::ffff:203.0.113.77"),
            ("{}%eth0", "fe80::1ff:fe23:4567:890a"),
        ],
    );
}

#[test]
fn dates_of_birth_in_several_languages() {
    finds(
        "date_of_birth",
        &[
            ("born on {} in Ohio", "2/8/1935"),
            ("DOB: {}", "1984-02-29"),
            ("dob {}", "02/29/84"),
            ("Date of Birth (MM/DD/YYYY): {}", "02/29/1984"),
            ("geboren am {}", "29. Februar 1984"),
            ("geb. {}", "29.02.1984"),
            ("Geburtsdatum: {}", "29.2.1984"),
            ("née le {} à Lyon", "29 février 1984"),
            ("fecha de nacimiento: {}", "29 de febrero de 1984"),
            ("nato il {}", "29 febbraio 1984"),
            ("nascido em {}", "29 de fevereiro de 1984"),
            ("geboortedatum: {}", "29-02-1984"),
            ("birthday is {}", "February 29th, 1984"),
        ],
    );
}

#[test]
fn what_is_written_otherwise_is_found_where_it_stands() {
    finds(
        "ssn",
        &[
            ("SSN:\\n{}\\n", "460-89-9847"),
            (r#"cut off: {{"a": \\\"ssn\\\\n{}"#, "460-89-9847"),
            ("body=My%20SSN%20is%20{}&x", "460-89-9847"),
            ("ssn&#58; {}", "460&#45;89&#45;9847"),
            ("{}", "460\u{200b}-89-9847"),
            ("{}", "４６０-８９-９８４７"),
            ("{}", "460.89.9847"),
            ("{}", "460_89_9847"),
            ("ssn{}", "460-89-9847"),
        ],
    );
    finds("phone", &[("?To={}&Body=hi", "%2B14155552671"), ("هاتف {}", "٠٥٠١٢٣٤٥٦٧")]);
    finds(
        "email",
        &[
            ("{}", "jane%40example.org"),
            ("cut {{\"to\": \"{}", "jane\\u0040example.org"),
            ("mail {} now", "jane&#64;example.org"),
            ("mail {} now", "jane [at] example [dot] org"),
            ("mail {} now", "jane(at)example.org"),
            ("mail {} now", "jane at example dot org"),
        ],
    );
    finds("ip", &[("from {}", "203[.]0[.]113[.]7")]);
    finds(
        "card",
        &[
            ("{}", "4111%201111%201111%201111"),
            ("{}", "4111_1111_1111_1111"),
            ("{}", "4111/1111/1111/1111"),
            ("{}", "4111\t1111\t1111\t1111"),
            ("{}", "4111\u{a0}1111\u{a0}1111\u{a0}1111"),
            ("{}", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
        ],
    );
    finds(
        "iban",
        &[
            ("{}", "DE89.3704.0044.0532.0130.00"),
            ("{}", "DE89  3704  0044  0532  0130  00"),
            ("IBAN{}", "DE89370400440532013000"),
            ("{}", "FR14 2004 1010 0505 0001 3M02 606"),
        ],
    );
}

#[test]
fn secrets_beside_their_names_in_other_languages() {
    finds(
        "credential",
        &[
            ("<password>{}</password>", "hunter2"),
            ("<wsse:Password Type=\"text\">{}</wsse:Password>", "hunter2"),
            ("curl -u admin:{} https://host/", "hunter2"),
            ("curl --user 'admin:{}' https://host/", "hunter2"),
            ("mysql -u root -p{} db", "hunter2"),
            ("sshpass -p '{}' ssh root@host", "hunter2"),
            ("{{'api_key': u'{}'}}", "abcd1234"),
            ("{{'api_key': b'{}'}}", "abcd1234"),
            ("my PIN: {}", "4711"),
            ("my pin is {}.", "4711"),
            ("Password for root: {}", "hunter2"),
            ("das Passwort ist {}", "hunter2"),
            ("exp 12/29 cvv {}", "123"),
            ("?X-Amz-Signature={}&x", "fe5f80f77d5fa3be"),
        ],
    );
    finds("connection_string", &[("jdbc:oracle:thin:scott/{}@//host:1521/x", "tiger")]);
}

#[test]
fn what_only_looks_like_one_stays() {
    for text in [
        "order 1002003004",
        "order 1002003004, phone pending",
        "Order number 48213377",
        "tracking 9400110898825022579493",
        "request 123e4567-e89b-12d3-a456-426614174000",
        "at 2025-07-06T14:23:01.456Z",
        "timestamp 1751811781",
        "version 1.2.3.4",
        "chapter 1.2.3.4",
        "Chrome/120.0.0.0",
        "libc 2.31.0.1",
        "ISBN 978-3-16-148410-0",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "total $1,234,567.89",
        "lotto 04 08 15 16 23 42",
        "MAC 00:1A:2B:3C:4D:5E",
        "std::net::Ipv4Addr",
        "a1b2::not_hex",
        "react@17.0.2",
        "icon@2x.png",
        "adobe 2020-01-01",
        "took 12345 ms",
        "lat 52.520008, lon 13.404954",
        "from 2010 2011 2012 2013",
        "DE12 is a bus",
        "report_2024_05_20_123_456.pdf",
        "build_415_555_2671",
        "docker run -u 1000:1000 -p 8080:80 image",
        "ls -plah",
        "<p>password</p> <b>token</b>",
        "GPIO pin is 12, pin 4711 of the chip",
        "connect the dot to the line, look at it",
        "C:\\new\\table\\users 10%25 & more",
        "the password for root is stored elsewhere",
        "5 0 0 1 2 3 4 5 6 7 8 9 0 1 2 3",
        "a (at) b, see [at] or (dot)",
        "The patient was identified by name.",
        "the user is identified by E-mail or Number",
        "granted, once identified by \"red hair\"",
    ] {
        let (left, found) = treat(text);
        assert_eq!((left.as_str(), found), (text, Vec::new()));
    }
}
