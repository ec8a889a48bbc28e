// The reference PLC directory (in memory) and PDS on loopback, as one process.
//
//   node pds.mjs [--pds-port N] [--plc-port N] [--data DIR] [--rate-limits] [--until-stdin-ends]
//
// Prints one line of JSON when both serve: {"ready":true,"pds":URL,"plc":URL,"data":DIR}, and afterwards one line for
// each XRPC request that was answered: {"method":"com.atproto.server.createSession","status":200}. Nothing that a
// client sent is printed. Ends on SIGTERM or SIGINT. A port of 0 takes a free one. SIGUSR2 stops the PDS, and when it is
// stopped starts it again over the same data; then {"serving":false} and {"serving":true} are printed. The PLC directory
// stays.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

const usage = 'usage: node pds.mjs [--pds-port N] [--plc-port N] [--data DIR] [--rate-limits] [--until-stdin-ends]'
const { values: flags } = parseArgs({
  options: {
    'pds-port': { type: 'string', default: '0' },
    'plc-port': { type: 'string', default: '0' },
    data: { type: 'string' },
    'rate-limits': { type: 'boolean', default: false },
    'until-stdin-ends': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log(usage)
  process.exit(0)
}

// Both servers listen on every address when they are told a port only; here nobody but this machine may reach them.
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  return typeof port === 'number' || typeof port === 'string'
    ? listen.call(this, { port: Number(port), host: '127.0.0.1' }, ...rest.filter((r) => typeof r === 'function'))
    : listen.call(this, port, ...rest)
}

// The PDS publishes its port in DID documents, so it must be known before it listens.
async function port(wanted) {
  if (Number(wanted) !== 0) return Number(wanted)
  const probe = net.createServer().listen(0)
  await once(probe, 'listening')
  const { port: free } = probe.address()
  await new Promise((done) => probe.close(done))
  return free
}

const { default: plcServer } = await import('@did-plc/server')
const { PDS } = await import('@atproto/pds')

const plcPort = await port(flags['plc-port'])
const pdsPort = await port(flags['pds-port'])
const data = flags.data ?? (await fs.mkdtemp(path.join(os.tmpdir(), 'reference-pds-')))
await fs.mkdir(path.join(data, 'blobs'), { recursive: true })

// secret keeps what a restart over the same data needs.
async function secret(name) {
  const file = path.join(data, name)
  try {
    return await fs.readFile(file, 'utf8')
  } catch {
    const made = randomBytes(32).toString('hex')
    await fs.writeFile(file, made, { mode: 0o600 })
    return made
  }
}

const plc = plcServer.PlcServer.create({ db: plcServer.Database.mock(), port: plcPort })
await plc.start()

async function startPDS() {
  const pds = await PDS.fromEnv({
    devMode: true,
    port: pdsPort,
    hostname: 'localhost', // the only name for which the PDS speaks plain http
    serviceDid: `did:web:localhost%3A${pdsPort}`,
    serviceHandleDomains: ['.test'],
    dataDirectory: data,
    blobstoreDiskLocation: path.join(data, 'blobs'),
    didPlcUrl: `http://localhost:${plcPort}`,
    plcRotationKeyK256PrivateKeyHex: await secret('rotation-key'),
    jwtSecret: await secret('jwt-secret'),
    adminPassword: await secret('admin-password'),
    inviteRequired: false,
    disableSsrfProtection: true,
    rateLimitsEnabled: flags['rate-limits'],
    crawlers: [],
  })
  await pds.start()
  pds.server.prependListener('request', (req, res) => {
    const method = /^\/xrpc\/([A-Za-z0-9.]+)/.exec(req.url)?.[1]
    if (method) res.on('finish', () => console.log(JSON.stringify({ method, status: res.statusCode })))
  })
  return pds
}

let pds = await startPDS()
let turn = Promise.resolve() // one change at a time
process.on('SIGUSR2', () => {
  turn = turn.then(async () => {
    if (pds) {
      await pds.destroy()
      pds = undefined
    } else {
      pds = await startPDS()
    }
    console.log(JSON.stringify({ serving: pds !== undefined }))
  })
})

let ending = false
async function end() {
  if (ending) return
  ending = true
  await turn
  await pds?.destroy()
  await plc.destroy()
  if (!flags.data) await fs.rm(data, { recursive: true, force: true })
  process.exit(0)
}
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, end)
if (flags['until-stdin-ends']) process.stdin.on('end', end).resume()

console.log(JSON.stringify({ ready: true, pds: `http://localhost:${pdsPort}`, plc: `http://localhost:${plcPort}`, data }))
