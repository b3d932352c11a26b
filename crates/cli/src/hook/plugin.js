// Written by `attestlog hook install opencode`; `attestlog hook uninstall` removes it.
// A tool runs only after its call is in the audit log: a hook that cannot record throws, and OpenCode then does not run the tool.
import { spawn } from "node:child_process"
const command = COMMAND
const parents = new Map()
const models = new Map()
const record = (event) =>
  new Promise((resolve, reject) => {
    let said = ""
    const child = spawn(command[0], command.slice(1), { stdio: ["pipe", "ignore", "pipe"] })
    const timer = setTimeout(() => child.kill("SIGKILL"), WAIT)
    child.on("error", (e) => { clearTimeout(timer); reject(new Error(`attestlog: this call was not recorded: ${e.message}`)) })
    child.stderr.on("data", (data) => { if (said.length < 8192) said += data })
    child.stdin.on("error", () => {})
    child.on("close", (code) => {
      clearTimeout(timer)
      if (code === 0) resolve()
      else reject(new Error(said.trim() || `attestlog: this call was not recorded (${code})`))
    })
    child.stdin.end(JSON.stringify(event))
  })
const about = (session) => ({ parent_session_id: parents.get(session), ...models.get(session) })
const isReported = (event) =>
  event.type === "session.idle" || event.type === "session.deleted" ||
  (event.type === "message.part.updated" && event.properties?.part?.type === "tool" &&
    event.properties.part.state?.status === "error")
export const Attestlog = async ({ directory }) => ({
  "chat.params": async (input) => {
    models.set(input.sessionID, { agent: input.agent?.name ?? input.agent, model: input.model?.id })
  },
  "tool.execute.before": async (input, output) => {
    await record({ hook: "tool.execute.before", directory, ...about(input.sessionID), input, output: { args: output.args } })
  },
  "tool.execute.after": async (input, output) => {
    await record({ hook: "tool.execute.after", directory, ...about(input.sessionID), input, output })
  },
  event: async ({ event }) => {
    const info = event.properties?.info
    if (event.type === "session.created" && info?.parentID) parents.set(info.id, info.parentID)
    if (isReported(event)) {
      const session = event.properties?.sessionID ?? event.properties?.part?.sessionID ?? info?.id
      // The tool has ended already: there is nothing left to stop.
      await record({ hook: "event", directory, ...about(session), event }).catch((e) => console.error(e.message))
    }
    if (event.type === "session.deleted") { parents.delete(info?.id); models.delete(info?.id) }
  },
})
