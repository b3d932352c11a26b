//! The words by which field names are judged: names of secrets and of personal numbers, words that may accompany them,
//! and words that give them another meaning.

use super::secret_keys::{Fit, Kind};

/// The names, by what they hold and how they match, with their words joined without separators.
pub(super) const NAMES: &[(Kind, Fit, &str)] = &[
    (
        Kind::Secret,
        Fit::End,
        "password passwd passphrase passcode passwort kennwort contrasena contraseña contrasenya motdepasse senha \
         wachtwoord token secret apikey secretkey privatekey privkey accesskey signingkey encryptionkey masterkey \
         sharedkey subscriptionkey accountkey servicekey serviceaccountkey sshkey authkey hmackey credential cookie \
         jsessionid phpsessid xamzsignature xgoogsignature mnemonic seedphrase recoveryphrase connectionstring \
         passord adgangskode kodeord lösenord losenord salasana heslo hasło lozinka jelszó parola parolă şifre şifresi şifrem parolası şifreniz katasandi matkhau \
         mậtkhẩu пароль пароля парол токен секрет κωδικός סיסמה كلمةالمرور كلمةالسر पासवर्ड รหัสผ่าน 密码 密碼 口令 密钥 密鑰 \
         令牌 秘钥 パスワード 暗証番号 비밀번호 암호",
    ),
    (
        Kind::Secret,
        Fit::End,
        "passw0rd p4ssw0rd p4ssword pssw0rd pssword maidenname sonarlogin \
     storepass keypass unsealkey unsealkeys pasahitza contrasinal lykilorð lykilord slaptažodis slaptazodis wagwoord nenosiri \
     fjalëkalimi fjalekalimi katalaluan zaporka lozinku adminkey applicationkey originkey rootkey secretaccesskey \
     paswoord hasła haslem hasłem motpasse contrasenia парола პაროლი գաղտնաբառ পাসওয়ার্ড கடவுச்சொல் رمزعبور گذرواژه",
    ),
    (Kind::Secret, Fit::Tight, "pwd"),
    (
        Kind::Secret,
        Fit::Words,
        "codeverifier requirepass masterauth jwt otp totp csrf xsrf creds bearer secretid authcode authorizationcode securitycode pincode cardpin atmpin \
         pinnumber userpin accountpin loginpin simpin phonepin devicepin doorpin alarmpin voicemailpin bankpin debitpin \
         walletpin unlockpin lockpin accesspin entrypin securitypin safepin smartcardpin tokenpin keypadpin simpuk pukcode \
         unlockcode doorcode gatecode alarmcode totpcode totppin mfapin totpseed otpsecret otpseed mfaseed geslo parool \
         snmpcommunity communitystring datakey oauthrefresh serverkey sdkkey originca origincakey restkey ingestkey writekey recoverykey bitlockerkey \
         backupkey scratchcode recoverycode recoverycodes backupcode mfacode verificationcode onetimecode \
         basicauth httpauth proxyauth xauth userauth proxyauthorization httpauthorization xauthorization \
         requestauthorization userpass dbpass databasepass smtppass ftppass adminpass rootpass mysqlpass pgpass \
         redispass proxypass loginpass keypass storepass sshpass mailpass imappass ldappass vpnpass wifipass mongopass \
         pgpass postgrespass postgrespass apppass basicpass httppass sudopass rabbitpass authpass pw appkey authtoken \
         sessionkey connstr connectionuri databaseurl dsn clave haslo sifre mdp wachtwoord webhookkey licensekey \
         deploykey storagekey consumerkey apitok privatepem secretphrase seedwords walletseed psk wpakey wifikey openaikey anthropickey stripekey googlekey awskey azurekey sendgridkey \
         twiliokey mailgunkey datadogkey geminikey mistralkey groqkey paypalkey cloudflarekey jelszo npmauthident fernetkey loggedinkey noncekey authsalt secureauthsalt loggedinsalt noncesalt functionskey clientkey \
         twofactorcode smscode logincode signincode otpcode authenticationcode securityanswer secretanswer challengeanswer \
         recoveryanswer memorableword memorablewords maidennameofmother answertosecurityquestion mothersmaidenname \
         mothermaidenname",
    ),
    (Kind::Secret, Fit::Words, "pass pat key"),
    (Kind::Secret, Fit::Joined, "pass pw key"),
    (
        Kind::Secret,
        Fit::Words,
        "secrettext accesscode rediscliauth redisauth clientassertion samlresponse samlassertion kerberosticket krbticket idrsa idecdsa \
         keyphrase xprv secretquestionanswer securityquestionanswer safecombination lockcombination",
    ),
    (Kind::Secret, Fit::Whole, "authorization auth pin sid connectsid pswd passw passwrd puk пин"),
    (
        Kind::Card,
        Fit::End,
        "creditcard creditcardnumber creditcardno creditcardnum debitcard debitcardnumber cardnumber cardnum \
         paymentcard paymentcardnumber bankcard cardpan primaryaccountnumber ccnumber ccnum cardverificationvalue \
         cardverificationcode cardsecuritycode",
    ),
    (Kind::Card, Fit::Words, "cardno ccno cardcsc"),
    (Kind::Card, Fit::Tight, "cvv cvc"),
    (Kind::Card, Fit::Whole, "pan"),
    (Kind::Ssn, Fit::End, "ssnnumber ssnno socialsecurity socialsecuritynumber socialsecurityno socialinsurancenumber"),
    (Kind::Ssn, Fit::Tight, "ssn"),
    (Kind::Ssn, Fit::Words, "itin taxid taxidnumber taxpayerid"),
    (Kind::Ssn, Fit::Whole, "ssn"),
    (Kind::BirthDate, Fit::End, "dateofbirth birthdate birthday birthdt"),
    (Kind::BirthDate, Fit::Tight, "dob"),
    (Kind::BirthDate, Fit::Words, "born bornon"),
    (Kind::BirthDate, Fit::Whole, "dob"),
    (Kind::Email, Fit::End, "email emailaddress emailaddr emailid mailaddress"),
    (Kind::Email, Fit::Whole, "mail"),
];

/// Names that also have another meaning in everyday programs: a parser's token, a web site's cookie. In a text, their
/// value must look like a secret unless the word before it makes the meaning certain.
pub(super) const VAGUE: &[&str] = &[
    "token",
    "secret",
    "cookie",
    "credential",
    "auth",
    "authorization",
    "pass",
    "pin",
    "pat",
    "key",
    "sid",
    "bearer",
    "creds",
    "jwt",
    "otp",
    "totp",
    "csrf",
    "xsrf",
    "pw",
    "clave",
    "parola",
    "mnemonic",
    "dsn",
    "secretid",
    "токен",
    "секрет",
    "令牌",
    "heslo",
    "psk",
    "appkey",
    "mdp",
    "databaseurl",
    "keyphrase",
    "accesscode",
];

/// Words that say how a value is encoded or used, not what it is.
pub(super) const QUALIFIERS: &str = "hash hashed digest value val plain plaintext raw encrypted enc encoded base b string \
     str confirm confirmation confirmed repeat again old new current previous header data field input param";

/// Words that say where a secret belongs: environments and vendors.
pub(super) const VENDORS: &str = "prod production stage staging dev qa uat sandbox live openai anthropic claude gemini azure \
     aws gcp google github gitlab bitbucket slack discord telegram twilio stripe paypal sendgrid mailgun cloudflare \
     digitalocean heroku netlify vercel datadog sentry grafana newrelic pagerduty huggingface hf cohere mistral groq \
     replicate together perplexity npm pypi nuget maven artifactory sonar vault consul nomad terraform ansible argocd \
     firebase supabase notion linear asana zendesk salesforce hubspot shopify square plaid algolia mapbox okta v jenkins launchdarkly airtable snyk codecov splunk elevenlabs neon fly flyio render \
     railway clojars dropbox bitwarden onepassword postman circleci travis buildkite segment amplitude mixpanel braze intercom \
     zoom webex trello monday clickup figma miro zapier braintree adyen klarna sumup mollie deepl pinecone weaviate qdrant \
     langsmith langfuse tavily serper fastly akamai linode vultr hetzner scaleway ovh backblaze wasabi ngrok tailscale doppler \
     infisical confluent snowflake databricks elastic opsgenie rollbar bugsnag honeycomb logzio papertrail mailchimp mailjet \
     postmark sparkpost brevo vonage nexmo plivo messagebird onesignal pusher ably fcm apns openweather newsapi tmdb alphavantage polygon finnhub coinbase binance kraken giphy pexels unsplash spotify \
     youtube serpapi firecrawl deepgram assemblyai stability runpod voyage xai grok deepseek moonshot cerebras fireworks nvidia \
     jira postgres mysql mongodb redis rabbitmq eu us uk";

/// Words that say whose secret it is, or which of several.
pub(super) const WHOSE: &str = "test testing local main primary secondary default backup master slave replica root admin \
     administrator user users username app api web server client service svc db database sql mariadb postgresql pg mongo \
     rabbit kafka elastic elasticsearch smtp imap mail ftp sftp ssh ldap vpn wifi wlan proxy http https docker registry \
     kubernetes k8s helm oauth saml sso bot webhook ci cd deploy build de asia east west north south one two a c x my our \
     your his her their the for of on to in fur für pour para del mi mein mon internal external private public legacy temp \
     tmp shared global team org company customer tenant development ver textbox box textfield entry text literal var \
     variable env arg argument";

/// Words that follow a name and give it another meaning: `token_count`, `password_changed_at`.
pub(super) const HARMLESS: &str = "came comes count counts counter limit limits limiter id ids uid uuid page pages next type types kind \
     kinds name names max min maximum minimum length len size sizes policy policies rule rules strength score scores changed \
     change changes at date time times timestamp expires expiry expiration expire expired exp ttl age lifetime status state \
     url urls uri link href path paths file filename files dir directory folder location endpoint provider providers manager \
     store storage reset resets forgot forgotten hint hints question required requirement requirements enabled disabled \
     allowed valid invalid validity validator validation verified verify verification is was has have are budget usage used \
     use uses total per rate price cost costs bucket buckets ring index indexes idx position pos offset offsets start end range \
     ranges window prefix format regex pattern patterns schema template label title placeholder description desc help message \
     messages msg error errors icon image img button btn class style css color colour visible visibility show hide toggle column columns row \
     rows table algorithm alg algo method methods scheme grant issuer audience scope scopes owner ref refs reference arn rotation \
     rotated rotate refresh created updated modified last first by consent banner preferences preference policyid jar parser parse \
     lexer stream list map usage encoding encoder encoders decoder iterator iter hasher hashers complexity history attempts attempt retries retry failed failures \
     checker generator book santa less protected authentication form page screen dialog prompt fields settings setting config \
     configuration options option info metadata meta details logits probs ids mask embedding embeddings vocab vocabulary \
     supply balance address contract symbol decimals holders transfer standard exchange flow introspection revocation \
     response request handler middleware service_name domain samesite httponly secure lock locked source resolver kid \
     version versions num number function func fn trait impl struct enum module helper helpers util utils tests spec specs \
     docs doc guide example_count leak leaks scanner scanning scan detector detection redaction mismatch match matches \
     stdin stdout fd command cmd interactive incorrect wrong pair pairs weak safety security recovery cracking";

/// Words that precede a vague name and give it another meaning: `next_page_token`, `max_tokens`.
pub(super) const HARMLESS_LEADS: &str = "next page nextpage continuation continue pagination paging cursor sync eos bos pad \
     unk cls sep mask special stop first last total max min num count input output prompt completion reasoning cached \
     context thinking tool image audio per remaining budget start end prev previous parse lex syntax keyword \
     ident identifier operator whitespace literal word sub delimiter cancellation cancel abort stopping trade erc20 gift \
     design color nft governance resume delta skip change watch idempotency fencing lease lock estimated avg average \
     number numbers used limit placeholder expected unexpected peek eof newline comment punctuation separator string_ \
     number_ boarding bus season ski day hall render second multi single bypass one compiler optimization map safety \
     draft bowling rolling hair prior pre is has no non not any";

/// Words that precede a vague name and leave no doubt.
pub(super) const SURE_LEADS: &str = "access auth api bearer refresh session id client app bot user personal deploy admin \
     webhook oauth oauth2 csrf xsrf jwt github gitlab slack npm pypi vault hf registry service security private secret \
     shared consumer signing cookie totp hmac discord telegram openai anthropic stripe twilio jenkins sonar azure aws gcp \
     google digitalocean cloudflare heroku netlify vercel datadog sentry grafana notion linear huggingface bitbucket jira \
     docker root db database mysql my mail smtp ftp login pw pwd x pat proxy device push verification reset magic invite \
     login_ account customer org team ci runner deploy_ dev prod staging test aws_session set http proxy_ master encryption";
