// Verifies a repository with the reference implementation (@atproto/repo): structure, order, hashes and signature.
//
//   node verify-repo.mjs DID DID_KEY < repo.car
//
// DID_KEY is the signing key as did:key:... Prints one line of JSON: the number of records and their paths.
import { verifyRepoCar } from '@atproto/repo'
import { buffer } from 'node:stream/consumers'

const [did, key] = process.argv.slice(2)
if (!did || !key) {
  console.error('usage: node verify-repo.mjs DID DID_KEY < repo.car')
  process.exit(2)
}
try {
  const { creates } = await verifyRepoCar(await buffer(process.stdin), did, key)
  console.log(JSON.stringify({ records: creates.length, paths: creates.map((c) => `${c.collection}/${c.rkey}`) }))
} catch (err) {
  console.error(`not a valid repository: ${err.message}`)
  process.exit(1)
}
