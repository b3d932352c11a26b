//! The agent, through its arguments: it puts secrets that it was given into calls.

mod identities;

use attestlog::json::Json;
use attestlog::redact::{Policy, Preset, Sanitizer, Secrets, dry_run};

const SECRET: &str = "gT7kQz93mWpL";

/// What remains of a call's arguments, or of a text.
fn left(preset: Preset, text: &str) -> String {
    let secrets = Secrets { pseudonyms: vec![attestlog::redact::PseudonymKey::new([7; 32])] };
    let sanitizer = Sanitizer::new(&Policy::preset(preset), secrets).unwrap();
    let value = Json::parse(text.as_bytes()).map_or_else(|_| Json::from(text), |parsed| parsed.value);
    dry_run(&sanitizer, value).unwrap().0.to_canonical().as_str().to_owned()
}

/// If an agent was given a password called `password_v2`, typed it into a page, or passed it in a list of arguments, it was
/// recorded in clear: only the end of a key was examined, and values that another member names were not recognised. The
/// names and pairs are part of the floor, which applies under every policy [O2].
#[test]
fn a_password_under_another_name_is_recorded() {
    for preset in Preset::ALL {
        for call in [
            r#"{"password_v2":"$"}"#,
            r#"{"API_KEY_OPENAI":"$"}"#,
            r#"{"pw":"$"}"#,
            r#"{"app_key":"$"}"#,
            r#"{"密码":"$"}"#,
            r#"{"Пароль":"$"}"#,
            r#"{"variable":"password","value":"$"}"#,
            r#"{"element":"Password input","ref":"e4","text":"$"}"#,
            r#"{"fields":[{"name":"Password","type":"textbox","value":"$"}]}"#,
            r#"{"headers":[{"name":"Authorization","value":"$"}]}"#,
            r#"{"command":"sshpass","args":["-p","$","ssh","root@host"]}"#,
            r#"{"args":["--token=$"]}"#,
            r#"["curl","-u","bob:$","https://host.example"]"#,
            r#"{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"$"}"#,
            "CREATE USER app IDENTIFIED BY '$'",
            "password: |\n  $\nuser: app",
            "<password><![CDATA[$]]></password>",
            "| password | $ |",
            "PGPASSWORD=$ psql -h db",
            "docker login -u bob -p $ registry.example.com",
            "machine host.example login bob password $",
        ] {
            let shown = left(preset, &call.replace('$', SECRET));
            assert!(!shown.contains(SECRET), "{}: {call} became {shown}", preset.name());
        }
    }
}

/// Somebody with a list of their own got these past every policy: colour codes between a name and its value, parts of a
/// form, commands that take a password by position, pairs with other names, tables, letters that only look like those of a
/// name.
#[test]
fn a_password_in_another_dress_is_recorded() {
    for preset in Preset::ALL {
        for call in [
            "\u{1b}[1mPASSWORD\u{1b}[0m=\u{1b}[32m$\u{1b}[0m",
            "--b\nContent-Disposition: form-data; name=\"password\"\n\n$\n--b--",
            "net use \\\\srv\\share $ /user:bob",
            "htpasswd -b .htpasswd bob $",
            "db.example.com:5432:shop:bob:$",
            "_auth=$",
            r#"{"field":"password","new_value":"$"}"#,
            r#"{"param":"password","to":"$"}"#,
            r#"{"path":"/password","op":"replace","value":"$"}"#,
            r#"{"columns":["name","password"],"rows":[["bob","$"]]}"#,
            r#"{"setting_name":"smtp_password","setting_value":"$"}"#,
            r#"{"mothers_maiden_name":"$"}"#,
            r#"{"question":"Name of your first pet?","answer":"$"}"#,
            r#"{"pass%77ord":"$"}"#,
            r#"{"p\u0430ssword":"$"}"#,
            "pаsswоrd=$",
            "INSERT INTO users (name, password) VALUES ('bob', '$')",
        ] {
            let shown = left(preset, &call.replace('$', SECRET));
            assert!(!shown.contains(SECRET), "{}: {call} became {shown}", preset.name());
        }
    }
    for card in [r#"{"count":4012888888881881}"#, r#"{"size":"4012888888881881"}"#, r#"{"id":4012888888881881}"#] {
        assert!(!left(Preset::Default, card).contains("4012888888881881"), "{card}");
    }
}

/// A private key given as a list of lines was recorded line by line, and all words of a wallet's phrase except the first.
#[test]
fn a_secret_in_pieces_is_recorded() {
    let key = left(
        Preset::Default,
        r#"["-----BEGIN PRIVATE KEY-----","MIIEvQ1","MIIEvQ2","-----END PRIVATE KEY-----","after"]"#,
    );
    assert!(!key.contains("MIIE") && key.contains("after"), "{key}");
    let words = "zebra ability able about above absent absorb abstract absurd abuse access accident";
    for text in [format!("seed phrase: {words}"), words.to_owned(), format!(r#"{{"note":"{words}"}}"#)] {
        let shown = left(Preset::Default, &text);
        assert!(words.split(' ').all(|word| !shown.contains(word)), "{shown}");
    }
}

/// National id numbers were not recognised, nor, under the policy for health data, were numbers of medical records and
/// passports.
#[test]
fn numbers_of_people_are_recorded() {
    for (preset, text, number) in [
        (Preset::Default, "Aadhaar 2341 2341 2346", "2346"),
        (Preset::Default, "CPF 529.982.247-25", "529.982"),
        (Preset::Default, "PESEL 44051401359", "44051401359"),
        (Preset::Default, "BSN 111222333", "111222333"),
        (Preset::Default, "NHS number 943 476 5919", "5919"),
        (Preset::Default, "DNI 12345678Z", "12345678"),
        (Preset::Default, "NINO AB123456C", "AB123456"),
        (Preset::Default, "NIR 1 85 05 78 006 084 91", "084"),
        (Preset::Default, "My SIN is 185515491.", "185515491"),
        (Preset::Default, "codice fiscale DFMTPV64C11H501O", "DFMTPV64"),
        (Preset::Default, "My bank account number is 1801432746, same branch.", "1801432746"),
        (Preset::Default, "Passport No. C01X00T47", "C01X00T47"),
        // By the name of the key or a label, without any word around it.
        (Preset::Default, r#"{"steuer_id":"37105884690"}"#, "37105884690"),
        (Preset::Default, r#"{"passport_number":"M77428096"}"#, "M77428096"),
        (Preset::Pci, r#"{"element":"TFN","ref":"e48","text":"406887104"}"#, "406887104"),
        (Preset::Hipaa, r#"{"element":"PESEL","text":"66112737546"}"#, "66112737546"),
        (Preset::Default, r#"{"fields":[{"label":"Aadhaar number","value":"399059810436"}]}"#, "399059810436"),
        (Preset::Default, r#"{"label":"CPF","value":51644456540}"#, "51644456540"),
        (Preset::Default, r#"{"routing_number":"021000021","account_number":"492841971725"}"#, "492841971725"),
        (Preset::Default, r#"{"payment":{"type":"card","number":"6304300547866677"}}"#, "6304300547866677"),
        (Preset::Hipaa, "MRN 00482913", "00482913"),
        (Preset::Hipaa, "passport number C01X00T47", "C01X00T47"),
    ] {
        let shown = left(preset, text);
        assert!(!shown.contains(number), "{text:?} became {shown}");
    }
}

/// A table that an agent wrote to a file, a Terraform setting and a token of an unknown vendor were recorded in clear; a
/// reference beside them was destroyed.
#[test]
fn a_password_in_a_table_is_recorded() {
    for preset in Preset::ALL {
        for call in [
            "url,username,password,notes\nhttps://h.example,bob,$,shared\n",
            "| host | password |\n|---|---|\n| h | $ |\n",
            "variable \"db_password\" {\n  default = \"$\"\n}\n",
            "UPDATE settings SET value='$' WHERE name='smtp_password'",
            r#"{"ansible_become_pass":"$"}"#,
            "A senha do sistema é $",
        ] {
            let shown = left(preset, &call.replace('$', SECRET));
            assert!(!shown.contains(SECRET), "{}: {call} became {shown}", preset.name());
        }
    }
    for text in [
        r#"{"SecretId":"arn:aws:secretsmanager:eu-west-1:801088676331:secret:lexer-579wy4"}"#,
        r#"{"dsn":"postgresql://app:${DB_PASSWORD}@db1:5432/encoder"}"#,
        "password: [REDACTED] attempt=4",
        "message M {\n  string password = 4;\n}",
    ] {
        let value = Json::parse(text.as_bytes()).map_or_else(|_| Json::from(text), |parsed| parsed.value);
        assert_eq!(left(Preset::Default, text), value.to_canonical().as_str());
    }
}

/// Values that are needed for an audit were destroyed: order numbers as cards, times as phone numbers, code as credentials
/// [O3].
#[test]
fn ordinary_values_are_destroyed() {
    for text in [
        r#"{"order_id":"4532015112830366"}"#,
        r#"{"authorization":"approved","next_page_token":"aGVsbG8gd29ybGQx","token":5}"#,
        r#"{"microphone_id":"4155552671"}"#,
        r#"{"ndc":"0071-0155-23"}"#,
        "Date:   Sun Aug 15 19:03:04 2021 -0700",
        "2018-02-04 14:58:02 -0500 565) int x;",
        "current_token = next_token(p); printf(\"token: %d\", t);",
        "const auto& secrets = bootstrap.static_resources().secrets();",
        "fn login(user: &str, password: Option<&Password>) -> Result<()>",
    ] {
        let value = Json::parse(text.as_bytes()).map_or_else(|_| Json::from(text), |parsed| parsed.value);
        assert_eq!(left(Preset::Default, text), value.to_canonical().as_str());
    }
}
