//! The page in Chromium, driven through its DevTools protocol over a pipe: no port, no network.

use super::told;
use attestlog::json::{Json, Limits};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How many folders are handed over at once.
const AT_ONCE: usize = 40;

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    calls: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Result<Browser, String> {
        let name = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
            Command::new(name).arg("--version").stderr(Stdio::null()).output().is_ok_and(|out| out.status.success())
        });
        let name = name.ok_or("there is no Chromium")?;
        let profile = tempfile::tempdir().unwrap();
        // The protocol speaks over the descriptors 3 and 4.
        let start = "exec \"$0\" --headless --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage --disable-background-networking \
                     --remote-debugging-pipe --user-data-dir=\"$1\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", start, name])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Ok(Browser { child, to, from, calls: 0, _profile: profile })
    }

    /// Calls a method and returns its result; events in between are dropped. If the browser ends, so does the wait.
    pub fn call(&mut self, session: Option<&str>, method: &str, params: Json) -> Result<Json, String> {
        self.calls += 1;
        let mut message = vec![("id", Json::from(self.calls)), ("method", method.into()), ("params", params)];
        message.extend(session.map(|session| ("sessionId", Json::from(session))));
        let message = Json::from(message.into_iter().collect::<attestlog::json::Object>());
        self.to.write_all(format!("{}\0", message.to_canonical()).as_bytes()).map_err(|e| e.to_string())?;
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).map_err(|e| e.to_string())?;
            if answer.pop() != Some(0) {
                return Err("Chromium ended".to_owned());
            }
            let limits = Limits::bytes(answer.len());
            let answer = Json::parse_within(&answer, &limits).map_err(|e| e.to_string())?.value;
            if answer.get("id").and_then(Json::as_u64) == Some(self.calls) {
                return answer.get("result").cloned().ok_or_else(|| answer.to_canonical().to_string());
            }
        }
    }

    /// Opens a page of the file system and returns its session.
    pub fn open(&mut self, page: &Path) -> Result<String, String> {
        let url = format!("file://{}", page.canonicalize().unwrap().display());
        let text = |json: &Json, name: &str| {
            json.get(name).and_then(Json::as_str).map(str::to_owned).ok_or(format!("no {name}"))
        };
        let target = self.call(None, "Target.createTarget", super::object([("url", url.into())]))?;
        let target = text(&target, "targetId")?;
        let params = super::object([("flatten", true.into()), ("targetId", target.into())]);
        let session = text(&self.call(None, "Target.attachToTarget", params)?, "sessionId")?;
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            // Evaluation waits for the page's scripts, but the page may not have begun to load.
            if self.evaluate(&session, "typeof Attestlog !== 'undefined' && document.readyState === 'complete'")?
                == Json::from(true)
            {
                return Ok(session);
            }
        }
        Err("the page's script does not run".to_owned())
    }

    /// Chooses files in an input of the page, as a reader does.
    pub fn choose(&mut self, session: &str, input: &str, files: Vec<String>) -> Result<(), String> {
        let number = |json: &Json, name: &str| json.get(name).cloned().ok_or(format!("no {name}"));
        let root = self.call(Some(session), "DOM.getDocument", super::object([]))?;
        let root = number(root.get("root").ok_or("no root")?, "nodeId")?;
        let query = super::object([("nodeId", root), ("selector", input.into())]);
        let node = number(&self.call(Some(session), "DOM.querySelector", query)?, "nodeId")?;
        let params = super::object([("files", files.into()), ("nodeId", node)]);
        self.call(Some(session), "DOM.setFileInputFiles", params).map(drop)
    }

    /// The value of an expression, waited for.
    pub fn evaluate(&mut self, session: &str, expression: &str) -> Result<Json, String> {
        let params = super::object([
            ("awaitPromise", true.into()),
            ("expression", expression.into()),
            ("returnByValue", true.into()),
        ]);
        let result = self.call(Some(session), "Runtime.evaluate", params)?;
        match result.get("exceptionDetails") {
            Some(wrong) => Err(wrong.to_canonical().to_string()),
            None => Ok(result.get("result").and_then(|result| result.get("value")).cloned().unwrap_or(Json::Null)),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.call(None, "Browser.close", super::object([]));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the page's script says of each folder; an error if there is no browser.
pub fn verdicts(page: &Path, driver: &Path, lines: &[String]) -> Result<Vec<(Json, Json)>, String> {
    let mut browser = Browser::start()?;
    let session = browser.open(page)?;
    let failed = |e: String| panic!("{e}");
    browser.evaluate(&session, "Attestlog.selfTest()").unwrap_or_else(failed);
    let driver = std::fs::read_to_string(driver).unwrap();
    browser.evaluate(&session, &driver).unwrap_or_else(failed);
    let mut all = Vec::new();
    for lines in lines.chunks(AT_ONCE) {
        let lines = Json::from(lines.to_vec()).to_canonical();
        let expression = format!(
            "(async () => {{ const out = []; for (const line of {lines}) out.push(await drive(line)); return out; }})()"
        );
        let answers = browser.evaluate(&session, &expression).unwrap_or_else(failed);
        let answers = answers.as_array().unwrap_or_else(|| panic!("{}", answers.to_canonical()));
        all.extend(answers.iter().filter_map(Json::as_str).map(told));
    }
    Ok(all)
}
