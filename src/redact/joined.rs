//! Names whose words are run together: `dbpw`, `mysqlrootpass`, `ENCRYPTKEY`, `passwordconfirm`.
//!
//! A short secret name (`pw`, `pass`, `key`) counts inside a word only if everything before it is made of whole words
//! that say whose it is or what it is for, so `compass`, `bypass`, `hockey`, `sortkey` and `lowpass` do not match. Long
//! names (`password`, `token`, `apikey`) match at the end of a word whatever precedes them (`Fit::End` in `names`), and
//! may be followed by words such as `confirm`.

use super::names::VENDORS;
use super::words::Table;
use std::sync::LazyLock;

/// Words that say whose a password is, or what it opens.
const OWNERS: &str = "db database sql my mysql maria mariadb postgres pg psql mongo redis rabbit rabbitmq ora oracle mssql ldap ad smtp imap pop \
     mail email ftp sftp ssh vpn wifi wlan wpa ppp proxy http https web app api cpanel admin administrator adm root super sudo su \
     sys system user usr username login logon account acct auth basic service svc srv server client master new old cur current \
     confirm repeat tmp temp zip pdf rar key store trust cert ca keystore truststore docker registry git github gitlab npm \
     jenkins grafana kibana elastic kafka encryption encrypt enc unlock bios rdp vnc win windows domain bind bot wp wordpress net router \
     snmp sip voicemail hotspot samba smb cifs nas iscsi chap radius tacacs sso idp oauth gpg pgp sap jira dev prod staging";
/// Words that say a key is cryptographic, not one of a table, a page or a keyboard.
const CIPHERS: &str = "priv enc encrypt encryption decrypt decryption sign signing hmac aes rsa ecdsa crypt crypto cipher jwt jwe ssl tls \
     pgp gpg tacacs radius vpn wpa oauth kms ipsec snmp wireguard";
/// Other words that say what a key is for, when run together with it.
const USES: &str = "private ssh auth access secret api app bot service server webhook license root admin master session shared account storage \
     deploy write ingest wifi vault sso new old prod dev staging";
/// Vendor names that are also ordinary words and occur before other kinds of keys.
const WORDS: &str = "stage qa uat v eu us uk together replicate notion linear square segment render fly neon polygon stability fireworks \
     consul nomad mixpanel amplitude elastic monday zoom trello together voyage cohere live sandbox";

static OWNER: LazyLock<Table<()>> = LazyLock::new(|| table(OWNERS.split_ascii_whitespace()));
static CIPHER: LazyLock<Table<()>> = LazyLock::new(|| table(CIPHERS.split_ascii_whitespace()));
static KEY: LazyLock<Table<()>> = LazyLock::new(|| {
    let vendors = VENDORS.split_ascii_whitespace().filter(|v| !WORDS.split_ascii_whitespace().any(|w| w == *v));
    table([CIPHERS, USES].into_iter().flat_map(str::split_ascii_whitespace).chain(vendors))
});

fn table(words: impl Iterator<Item = &'static str>) -> Table<()> {
    Table::of(words.map(|word| (word.as_bytes(), ())))
}

/// Longer prefixes are not checked.
const LONGEST: usize = 31;

/// Whether the letters before a name in the same word leave it the name of a secret.
pub(super) fn leads(name: &str, lead: &[u8]) -> bool {
    let words = if name == "key" { &KEY } else { &OWNER };
    if lead.len() > LONGEST {
        return false;
    }
    // Bit n is set if the first n letters are a sequence of whole words.
    let mut ends = 1u32;
    for end in 2..=lead.len() {
        let ended =
            (0..end - 1).any(|start| ends >> start & 1 == 1 && lead.get(start..end).is_some_and(|w| words.has(w)));
        ends |= u32::from(ended) << end;
    }
    !lead.is_empty() && ends >> lead.len() & 1 == 1
}

/// Whether a word says that a key is cryptographic.
pub(super) fn is_cipher(word: &[u8]) -> bool {
    CIPHER.has(word)
}

/// The length of a suffix that only qualifies the long name before it: *confirm* in `passwordconfirm`.
pub(super) fn qualifier(word: &[u8]) -> Option<usize> {
    const BEHIND: [&[u8]; 10] =
        [b"confirmation", b"confirmed", b"confirm", b"repeat", b"again", b"new", b"old", b"hash", b"hashed", b"value"];
    const NAMES: [&[u8]; 7] = [b"password", b"passwd", b"passwort", b"passphrase", b"secret", b"apikey", b"pwd"];
    let behind = BEHIND.iter().find(|behind| word.ends_with(behind))?;
    let name = word.get(..word.len() - behind.len())?;
    NAMES.iter().any(|n| name.ends_with(n)).then_some(behind.len())
}

#[cfg(test)]
mod tests {
    use super::super::secret_keys::{Kind, kind_of_key};

    #[test]
    fn names_that_run_together() {
        for key in [
            "dbpw",
            "rootpw",
            "sshpw",
            "mysqlpwd",
            "dbpass",
            "userpass",
            "apikey",
            "authtoken",
            "secretkey",
            "passwd1",
            "adminpassword",
            "clientsecret",
            "bearertoken",
            "privkey",
            "sessiontoken",
            "mysqlrootpw",
            "newadminpass",
            "DBpass",
            "ENCRYPTKEY",
            "openaikey",
            "passwordconfirm",
            "passwordnew",
            "newpasswordrepeat",
            "oldpw",
            "jira_userpw",
            "tacacs_key",
        ] {
            assert_eq!(kind_of_key(key), Some(Kind::Secret), "{key}");
        }
    }

    #[test]
    fn words_that_end_like_them() {
        for key in [
            "compass",
            "bypass",
            "overpass",
            "underpass",
            "trespass",
            "lowpass",
            "highpass",
            "boardingpass",
            "testpass",
            "firstpass",
            "monkey",
            "donkey",
            "hockey",
            "turkey",
            "whiskey",
            "jockey",
            "latchkey",
            "turnkey",
            "hotkey",
            "sortkey",
            "primarykey",
            "foreignkey",
            "cachekey",
            "objectkey",
            "partitionkey",
            "publickey",
            "segmentkey",
            "passenger",
            "passport",
            "keyboard",
            "keynote",
            "keypad",
            "passwordpolicy",
            "passwordlength",
            "tokenizer",
            "secretary",
            "secretariat",
            "authority",
            "author",
            "passive",
            "passage",
        ] {
            assert_eq!(kind_of_key(key), None, "{key}");
        }
    }
}
