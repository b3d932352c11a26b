//! Secrets of many kinds, in what surrounds them: bare, in members, commands, files, sentences, code.

/// A kind: what it is called, how a value looks, where it stands while the detectors are developed, and where else it stands
/// when they are measured. `{}` is the value; what is JSON is given as such.
pub struct Kind {
    pub name: &'static str,
    pub value: &'static str,
    pub places: &'static [&'static str],
    pub unseen: &'static [&'static str],
}

const fn kind(name: &'static str, value: &'static str, places: &'static [&'static str], unseen: &'static [&'static str]) -> Kind {
    Kind { name, value, places, unseen }
}

/// Where a token stands that shows what it is.
const TOKEN: &[&str] = &["{}", "git remote set-url origin https://x:{}@host.example/r.git", r#"{"data":"{}"}"#, "found {} in the log", "const t = \"{}\";"];
const TOKEN_UNSEEN: &[&str] = &["<{}>", r#"{"items":["a","{}"]}"#, "  - {}", "curl -H 'X-T: {}' https://h.example", "leaked: {}."];

pub const KINDS: &[Kind] = &[
    kind("aws access key", "AKIA{U16}", TOKEN, TOKEN_UNSEEN),
    kind("github token", "ghp_{A36}", TOKEN, TOKEN_UNSEEN),
    kind("gitlab token", "glpat-{u20}", TOKEN, TOKEN_UNSEEN),
    kind("openai key", "sk-proj-{A48}", TOKEN, TOKEN_UNSEEN),
    kind("anthropic key", "sk-ant-api03-{u40}AA", TOKEN, TOKEN_UNSEEN),
    kind("slack token", "xoxb-{n12}-{n12}-{A24}", TOKEN, TOKEN_UNSEEN),
    kind("stripe key", "sk_live_{A24}", TOKEN, TOKEN_UNSEEN),
    kind("google key", "AIza{u35}", TOKEN, TOKEN_UNSEEN),
    kind("npm token", "npm_{A36}", TOKEN, TOKEN_UNSEEN),
    kind("terraform token", "{A14}.atlasv1.{A60}", TOKEN, TOKEN_UNSEEN),
    kind("vault token", "hvs.{A24}", TOKEN, TOKEN_UNSEEN),
    kind("discord token", "MT{A22}.x{A5}.{u38}", TOKEN, TOKEN_UNSEEN),
    kind("sendgrid key", "SG.{u22}.{u43}", TOKEN, TOKEN_UNSEEN),
    kind("huggingface token", "hf_{A34}", TOKEN, TOKEN_UNSEEN),
    kind("digitalocean token", "dop_v1_{h64}", TOKEN, TOKEN_UNSEEN),
    kind("web token", "eyJhbGciOiJIUzI1NiJ9.eyJ{A30}.{u43}", TOKEN, TOKEN_UNSEEN),
    kind("telegram token", "{n10}:AA{u33}", &["{}", "bot {}", r#"{"bot":"{}"}"#], &["https://api.telegram.org/bot{}/getMe", "run with {} today"]),
    kind(
        "password member",
        "{P12}",
        &[
            r#"{"password":"{}"}"#, r#"{"password_v2":"{}"}"#, r#"{"pw":"{}"}"#, r#"{"db_pass":"{}"}"#, r#"{"DB_PASSWORD_PROD":"{}"}"#,
            r#"{"login":{"user":"jane","passwd":"{}"}}"#, r#"{"userPassword":"{}"}"#, r#"{"smtp_pwd":"{}"}"#,
        ],
        &[
            r#"{"PASSWORD_STAGING":"{}"}"#, r#"{"passwordForAdmin":"{}"}"#, r#"{"root_pw":"{}"}"#, r#"{"Password1":"{}"}"#,
            r#"{"mysqlPassword_old":"{}"}"#,
        ],
    ),
    kind(
        "password member of other languages",
        "{P11}",
        &[
            r#"{"密码":"{}"}"#, r#"{"пароль":"{}"}"#, r#"{"contraseña":"{}"}"#, r#"{"Passwort":"{}"}"#, r#"{"mot_de_passe":"{}"}"#,
            r#"{"パスワード":"{}"}"#, r#"{"senha":"{}"}"#,
        ],
        &[r#"{"ПАРОЛЬ":"{}"}"#, r#"{"비밀번호":"{}"}"#, r#"{"hasło":"{}"}"#, r#"{"用户密码":"{}"}"#, r#"{"wachtwoord":"{}"}"#, r#"{"şifre":"{}"}"#],
    ),
    kind(
        "key member",
        "{A32}",
        &[
            r#"{"API_KEY_OPENAI":"{}"}"#, r#"{"app_key":"{}"}"#, r#"{"x-api-key":"{}"}"#, r#"{"apiKeyStripe":"{}"}"#,
            r#"{"client_secret":"{}"}"#, r#"{"TOKEN_GITHUB":"{}"}"#, r#"{"secret_key":"{}"}"#, r#"{"api":{"key":"{}"}}"#,
        ],
        &[
            r#"{"STRIPE_SECRET_KEY_LIVE":"{}"}"#, r#"{"OPENAI_API_KEY_2":"{}"}"#, r#"{"accessToken":"{}"}"#, r#"{"webhook_secret":"{}"}"#,
            r#"{"encryption-key":"{}"}"#, r#"{"SECRET_AZURE":"{}"}"#,
        ],
    ),
    kind(
        "pair",
        "{P14}",
        &[
            r#"{"variable":"password","value":"{}"}"#, r#"{"name":"DB_PASSWORD","value":"{}"}"#, r#"{"key":"api_key","value":"{}"}"#,
            r#"[{"name":"Authorization","value":"Basic {}"}]"#, r#"{"env":[{"name":"API_TOKEN","value":"{}"}]}"#,
            r#"{"headers":[{"key":"X-Api-Key","value":"{}"}]}"#,
        ],
        &[
            r#"{"option":"password","value":"{}"}"#, r#"{"field":"client_secret","val":"{}"}"#, r#"{"Name":"MYSQL_ROOT_PASSWORD","Value":"{}"}"#,
            r#"{"headers":[["Cookie","sid={}"]]}"#, r#"{"property":"spring.datasource.password","value":"{}"}"#,
        ],
    ),
    kind(
        "typed into a page",
        "{P10}",
        &[
            r#"{"element":"Password input","ref":"e12","text":"{}"}"#, r##"{"selector":"#password","value":"{}"}"##,
            r#"{"selector":"input[type='password']","text":"{}"}"#, r#"{"fields":[{"name":"Password","type":"textbox","ref":"e3","value":"{}"}]}"#,
        ],
        &[
            r#"{"element":"Textbox for the password of the admin","ref":"s1e4","text":"{}"}"#, r#"{"locator":"input[name=passwd]","value":"{}"}"#,
            r#"{"element":"API key field","text":"{}"}"#,
        ],
    ),
    kind(
        "argument list",
        "{A14}",
        &[
            r#"{"args":["--password","{}"]}"#, r#"["mysql","-u","root","-p{}","db"]"#, r#"{"command":"sshpass","args":["-p","{}","ssh","root@h"]}"#,
            r#"["--token={}"]"#, r#"["curl","-u","admin:{}","https://h.example"]"#, r#"{"argv":["docker","login","-u","bob","-p","{}"]}"#,
        ],
        &[
            r#"["tool","--api-key","{}","--verbose"]"#, r#"{"cmd":["redis-cli","-a","{}","ping"]}"#, r#"{"command":"ldapsearch","args":["-x","-w","{}"]}"#,
            r#"["--client-secret={}","-v"]"#, r#"["-u","root","-p","{}"]"#,
        ],
    ),
    kind(
        "shell",
        "{A15}",
        &[
            "curl -u bob:{} https://h.example/x", "PGPASSWORD={} psql -h db -U app", "export API_TOKEN={}", "sshpass -p {} ssh root@10.0.0.1",
            "docker login -u bob -p {} r.example.com", "mysqldump -uroot -p{} shop > s.sql", "redis-cli -h c.example -a {} ping",
            "echo {} | docker login --password-stdin -u bob", "aws configure set aws_secret_access_key {}", "vault login {}",
        ],
        &[
            "ldapadd -x -D cn=admin -w {} -f a.ldif", "echo '{}' | sudo -S systemctl restart nginx", "mongosh -u root -p {} --host h",
            "wget --user=bob --password={} https://h.example/f", "openssl rsa -in k.pem -passin pass:{}", "smbclient //h/share -U bob%{}",
            "setx OPENAI_API_KEY {}", "http -a bob:{} GET h.example/x", "keytool -list -keystore k.jks -storepass {}", "MYSQL_PWD={} mysql -u root",
            "$env:API_KEY = \"{}\"", "unzip -P {} backup.zip", "helm registry login r.example.com -u bob -p {}", "kubectl create secret generic db --from-literal=password={}",
        ],
    ),
    kind(
        "flag",
        "{A12}9",
        &["deploy --token {} --env prod", "tool --password={}", "app --api-key \"{}\"", "x --client-secret '{}'"],
        &["svc --db-password {}", "run --auth-token={} -v", "cli login --secret-key {}", "job --access-key {} --region eu"],
    ),
    kind(
        "environment file",
        "{A18}",
        &["HOST=x\nDB_PASSWORD={}\nPORT=1", "SECRET_KEY='{}'", "export STRIPE_KEY_SECRET=\"{}\"", "JWT_SECRET={}"],
        &["REDIS_PASS={}\nDEBUG=1", "APP_KEY=base64:{}", "SMTP_PASSWORD = {}", "TWILIO_AUTH_TOKEN={} # prod"],
    ),
    kind(
        "yaml",
        "{A16}",
        &[
            "db:\n  user: app\n  password: {}\n", "password: |\n  {}\nuser: x", "env:\n  - name: DB_PASSWORD\n    value: {}\n", "api_key: \"{}\"",
            "stringData:\n  token: {}",
        ],
        &["secret: >-\n    {}\n", "- name: API_TOKEN\n  value: \"{}\"", "auth:\n  client_secret: '{}'", "password:\n  {}\n", "credentials:\n  pass: {}x1"],
    ),
    kind(
        "xml",
        "{P13}",
        &[
            "<password>{}</password>", "<password><![CDATA[{}]]></password>", "<add key=\"Password\" value=\"{}\"/>",
            "<key>Password</key>\n  <string>{}</string>", "<property name=\"password\" value=\"{}\"/>",
        ],
        &["<db:password type='x'>{}</db:password>", "<string name=\"api_key\">{}</string>", "<clientSecret><![CDATA[ {} ]]></clientSecret>", "<user name=\"a\" password=\"{}\"/>"],
    ),
    kind(
        "markdown",
        "{P12}",
        &["**Password:** {}", "| password | {} |", "`password`: `{}`", "- Password: {}", "**Password**: {}"],
        &["* API key: `{}`", "| field | value |\n| --- | --- |\n| api_key | {} |", "### Login\n\nPassword: `{}`", "- **pw**: {}"],
    ),
    kind(
        "sql",
        "{A12}",
        &[
            "CREATE USER app IDENTIFIED BY '{}';", "ALTER ROLE app WITH PASSWORD '{}';", "ALTER USER 'x'@'%' IDENTIFIED WITH mysql_native_password BY '{}'",
            "SET PASSWORD FOR 'x' = PASSWORD('{}')", "CREATE LOGIN x WITH PASSWORD = '{}'",
        ],
        &["GRANT ALL ON *.* TO 'a'@'h' IDENTIFIED BY PASSWORD '{}'", "CREATE ROLE r LOGIN ENCRYPTED PASSWORD '{}'", "alter user app identified by {}", "UPDATE users SET password = '{}' WHERE id = 3"],
    ),
    kind(
        "connection string",
        "{A13}",
        &[
            "postgres://app:{}@db.example:5432/x", "Server=db;User Id=sa;Password={};Encrypt=True", "redis://:{}@cache.example:6379/0",
            "app:{}@tcp(10.0.0.5:3306)/shop", "jdbc:postgresql://h/db?user=a&password={}", "amqp://u:{}@mq.example/v",
        ],
        &["mongodb+srv://u:{}@c.example/db", "Data Source=h;UID=sa;PWD={};", "jdbc:oracle:thin:scott/{}@h:1521/x", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={}==", "host=h user=u password={} dbname=d"],
    ),
    kind(
        "code",
        "{A14}",
        &[
            "os.environ[\"DB_PASSWORD\"] = \"{}\"", "const password = '{}';", "client = Client(api_key=\"{}\")", "let token = \"{}\";",
            "conn.login(user=\"a\", password=\"{}\")", "password: '{}',",
        ],
        &["private static final String SECRET_KEY = \"{}\";", "cfg.Password = `{}`", "auth = ('bob', '{}')  # password = \"{}\"", "String apiKey = \"{}\";", "$password = '{}';", "define('DB_PASSWORD', '{}');"],
    ),
    kind(
        "header",
        "{A24}",
        &["Authorization: Bearer {}", "X-Api-Key: {}", "Cookie: session={}; theme=dark", "Set-Cookie: sid={}; HttpOnly", "curl -H 'Authorization: token {}' h.example"],
        &["Proxy-Authorization: Basic {}=", "X-Auth-Token: {}", "PRIVATE-TOKEN: {}", "{\"headers\":{\"authorization\":\"Bearer {}\"}}", "Ocp-Apim-Subscription-Key: {}"],
    ),
    kind(
        "sentence",
        "{P12}",
        &[
            "my password is {}.", "the api key for staging: {}", "Use the password {} to log in", "The password for the database is {}", "password: {}",
            "Passwort lautet {}",
        ],
        &["Login with user bob and password {}", "your new password is: {}", "wifi password: {}", "the root password was changed to {}", "пароль: {}", "密码：{}", "mot de passe : {}"],
    ),
    kind(
        "token in a sentence",
        "{A30}",
        &["my token is {}", "the secret is {}", "API key: {}", "access token = {}"],
        &["here is the api key {}", "Token: {}", "use secret key {} for it", "refresh token: {}"],
    ),
    kind("netrc", "{A14}", &["machine h.example.com login y password {}", "default login bob password {}"], &["machine api.example.com\n  login bob\n  password {}\n"]),
    kind("url query", "{A20}", &["https://h.example/x?access_token={}&y=1", "GET /a?api_key={}"], &["https://h.example/cb?code=1&client_secret={}", "wss://h.example/?token={}", "/reset?token={}"]),
    kind("signed cookie", "s%3A{A32}.{A43}", &["Cookie jar: session={}", "connect.sid={}; Path=/"], &["set sess={}"]),
    kind("private key", "MII{b60}", &["-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", r#"["-----BEGIN RSA PRIVATE KEY-----","{}","-----END RSA PRIVATE KEY-----"]"#, "key: -----BEGIN EC PRIVATE KEY-----\\n{}"], &[r#"{"pem":["-----BEGIN OPENSSH PRIVATE KEY-----","{}","-----END OPENSSH PRIVATE KEY-----"]}"#, r#"{"k":"-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n"}"#]),
    kind("json web key", "{u43}", &[r#"{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"{}"}"#, r#"{"kty":"oct","k":"{}"}"#, r#"{"keys":[{"kty":"RSA","n":"x","e":"AQAB","d":"x","p":"{}"}]}"#], &[r#"{"kty":"OKP","crv":"Ed25519","x":"a","d":"{}"}"#, r#"{"kty":"RSA","n":"x","e":"AQAB","qi":"{}"}"#]),
    kind("mnemonic of 12", "{mnemonic12}", &["seed phrase: {}", "{}", r#"{"note":"{}"}"#, "mnemonic = \"{}\""], &["Recovery phrase\n{}", "my wallet: {} - keep it", r#"{"seed_phrase":"{}"}"#]),
    kind("mnemonic of 24", "{mnemonic24}", &["{}", "recovery phrase is {}"], &["backup {}", r#"{"words":"{}"}"#]),
    kind("card", "{visa}", &["pay with {}", r#"{"card_number":"{}"}"#, "{}", r#"{"pan":"{}"}"#], &["charge {} now", r#"{"payment":{"number":"{}"}}"#, "card={}"]),
    kind("card in groups", "{visa4}", &["{}", "my card is {}", r#"{"note":"{}"}"#], &["visa {} exp 12/29", "order with {} please"]),
    kind("mastercard", "{mastercard}", &["{}", "mastercard {}"], &[r#"{"cc":"{}"}"#, "billed {} today"]),
    kind("ssn", "4{d2}-4{d1}-1{d3}", &["SSN {}", "{}", r#"{"ssn":"{}"}"#], &["his number is {}", r#"{"note":"ssn {}"}"#]),
    kind("aadhaar", "{aadhaar}", &["Aadhaar: {}", r#"{"aadhaar":"{}"}"#, "aadhaar number {}"], &["UIDAI {}", r#"{"aadhaar_number":"{}"}"#]),
    kind("aadhaar in groups", "{aadhaar4}", &["{}", "Aadhaar {}"], &["id proof {}", r#"{"note":"{}"}"#]),
    kind("cpf", "{cpf}", &["CPF {}", "{}", r#"{"cpf":"{}"}"#], &["cliente {}", "CPF: {}."]),
    kind("bsn", "{bsn}", &["BSN {}", r#"{"bsn":"{}"}"#], &["burgerservicenummer: {}", "bsn is {}"]),
    kind("pesel", "{pesel}", &["PESEL {}", r#"{"pesel":"{}"}"#], &["numer PESEL: {}", "pesel={}"]),
    kind("nhs number", "{nhs}", &["NHS number {}", r#"{"nhs_number":"{}"}"#], &["NHS no. {}", "NHS: {}"]),
    kind("dni", "{dni}", &["DNI {}", "{}", r#"{"dni":"{}"}"#], &["DNI: {}.", "con documento {}"]),
    kind("nie", "{nie}", &["NIE {}", "{}"], &["residente {}", r#"{"nie":"{}"}"#]),
    kind("nir", "{nir}", &["NIR {}", "{}"], &["numéro de sécurité sociale : {}", r#"{"insee":"{}"}"#]),
    kind("nino", "{nino}", &["NINO {}", "{}", "national insurance number {}"], &["NI number: {}", r#"{"nino":"{}"}"#]),
    kind("e-mail", "{word}.{l6}@{word}.example.org", &["write to {}", r#"{"to":"{}"}"#], &["From: {}", "cc {} please"]),
    kind("phone", "+49 30 {n4} {d4}", &["call {}", r#"{"phone":"{}"}"#], &["{}", "fax {}"]),
    kind("us phone", "({n3}) 555-{n4}", &["{}", "call {}"], &["reach me at {}", r#"{"mobile":"{}"}"#]),
    kind("address", "203.0.113.{n2}", &["from {}", r#"{"client":"{}"}"#], &["{}:443", "peer {} left"]),
    kind("birth", "19{n2}-0{n1}-1{d1}", &["born on {}", r#"{"dob":"{}"}"#], &["Date of birth: {}", "DOB {}"]),
    kind("azure secret", "{A3}8Q~{A34}", &["{}", "secret {}"], &[r#"{"x":"{}"}"#]),
    kind("one-time code", "{n6}", &[r#"{"otp":"{}"}"#, r#"{"pin":"{}"}"#, r#"{"mfa_code":"{}"}"#], &[r#"{"verification_code":"{}"}"#, r#"{"security_code":"{}"}"#]),
];

/// Those that only the policy for health data looks for.
pub const HEALTH: &[Kind] = &[
    kind("medical record", "{n8}", &["MRN {}", "mrn: {}", "medical record number {}"], &["MRN-{}", "the chart number is {}"]),
    kind("passport", "C{n8}", &["passport number {}", "Passport: {}"], &["passport no. {}", "her passport is {}"]),
];
