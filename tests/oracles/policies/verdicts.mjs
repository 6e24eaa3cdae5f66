// Writes crates/kms/tests/data/verdicts.jsonl: random policies and requests, and what @cloud-copilot/iam-simulate says of
// them. Run by hand (npm install && node verdicts.mjs > FILE); the tests read the file.
//
// Left out, because the two differ on purpose or the oracle says something AWS does not: dates as seconds (it counts
// milliseconds), policy variables and set operators with IfExists (refused here), two encryption context keys of one name in
// different case. Registers are written {a} to {d}; readers put 96 digits in their place.
import { loadPolicy } from '@cloud-copilot/iam-policy'
import { DiscoveryContextKeyConstraints } from './node_modules/@cloud-copilot/iam-simulate/dist/esm/context_keys/discoveryContextKeyConstraints.js'
import { authorize } from './node_modules/@cloud-copilot/iam-simulate/dist/esm/core_engine/CoreSimulatorEngine.js'
import { AwsRequestImpl } from './node_modules/@cloud-copilot/iam-simulate/dist/esm/request/request.js'
import { RequestContextImpl } from './node_modules/@cloud-copilot/iam-simulate/dist/esm/requestContext.js'

const CASES = 300
const ACCOUNT = '123456789012'
const FOREIGN = '210987654321'
const KEY = `arn:aws:kms:local-1:${ACCOUNT}:key/11111111-2222-3333-4444-555555555555`
const ALICE = `arn:aws:iam::${ACCOUNT}:user/Alice`
const APP = `arn:aws:iam::${ACCOUNT}:role/App`
const STRANGER = `arn:aws:iam::${FOREIGN}:user/Stranger`
const TIME = '2026-11-22T12:00:00Z'
const register = digit => digit.repeat(96)

let state = 20261122n
const below = limit => {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn
  return Number((state >> 33n) % BigInt(limit))
}
const pick = list => list[below(list.length)]
const some = list => {
  const chosen = list.filter(() => below(3) === 0)
  return chosen.length ? (chosen.length === 1 && below(2) ? chosen[0] : chosen) : pick(list)
}
const chance = percent => below(100) < percent

const ATTESTATION = ['kms:RecipientAttestation:ImageSha384', 'kms:RecipientAttestation:PCR0', 'kms:RecipientAttestation:PCR8', 'kms:recipientattestation:pcr3']
const EQUALITY = ['StringEquals', 'StringNotEquals', 'StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase']
const LIKE = ['StringLike', 'StringNotLike']
const DATES = ['DateEquals', 'DateNotEquals', 'DateLessThan', 'DateLessThanEquals', 'DateGreaterThan', 'DateGreaterThanEquals']
const orIfExists = operator => (chance(25) ? `${operator}IfExists` : operator)

function condition() {
  switch (below(7)) {
    case 0:
    case 1: {
      const like = chance(25)
      const values = like ? ['a*', '*', 'b???*', '*c', '{d}'] : ['{a}', '{b}', '{c}', '{A}']
      return [orIfExists(pick(like ? LIKE : EQUALITY)), pick(ATTESTATION), some(values)]
    }
    case 2:
      return ['Null', pick([...ATTESTATION, 'kms:EncryptionContext:app']), pick(['true', 'false'])]
    case 3:
      return [orIfExists(pick([...EQUALITY, ...LIKE])), pick(['kms:EncryptionContext:app', 'KMS:encryptioncontext:App']), some(['pay*', 'payroll', 'PAYROLL', 'web?', 'x'])]
    case 4:
      return [pick(['ForAnyValue:', 'ForAllValues:']) + pick([...EQUALITY, ...LIKE]), 'kms:EncryptionContextKeys', some(['app', 'APP', 'tenant', 't*', 'x'])]
    case 5:
      return [orIfExists(pick(DATES)), 'aws:CurrentTime', some(['2026-11-22T12:00:00Z', '2026-11-22T13:00:00+01:00', '2026-11-22', '2027-01-01T00:00:00Z', '2025-01-01'])]
    default:
      return [orIfExists(pick([...EQUALITY, ...LIKE])), pick(['aws:PrincipalArn', 'AWS:principalarn']), some([ALICE, APP, '*', 'arn:aws:iam::*:role/*', STRANGER])]
  }
}

function conditions() {
  const block = {}
  for (let count = below(3); count > 0; count--) {
    const [operator, key, value] = condition()
    const keys = (block[operator] ??= {})
    if (!Object.keys(keys).some(other => other.toLowerCase() === key.toLowerCase())) keys[key] = value
  }
  return block
}

function statement(principal) {
  const made = { Effect: chance(75) ? 'Allow' : 'Deny' }
  if (principal) made.Principal = chance(15) ? '*' : { AWS: some([ALICE, APP, ACCOUNT, `arn:aws:iam::${ACCOUNT}:root`, STRANGER, `arn:aws:iam::${FOREIGN}:root`, '*']) }
  const actions = some(['kms:Decrypt', 'kms:*', 'kms:Gen*', 'kms:decrypt', 'kms:Encrypt', 'kms:GenerateDataKey?air'])
  made[chance(85) ? 'Action' : 'NotAction'] = actions
  const resources = chance(60) ? '*' : some([KEY, 'arn:aws:kms:local-1:*:key/*', 'arn:aws:kms:*:*:key/1*5', 'arn:aws:kms:local-2:*:key/*'])
  made[chance(90) || resources === '*' ? 'Resource' : 'NotResource'] = resources
  const block = conditions()
  if (Object.keys(block).length) made.Condition = block
  return made
}

const policy = principal => ({ Version: '2012-10-17', Statement: Array.from({ length: 1 + below(3) }, () => statement(principal)) })
const full = json => JSON.parse(JSON.stringify(json).replace(/\{([a-dA-D])\}/g, (_, digit) => register(digit)))

function one() {
  const principal = pick([ALICE, ALICE, APP, STRANGER])
  const action = pick(['kms:Decrypt', 'kms:Decrypt', 'kms:GenerateDataKey', 'kms:GenerateDataKeyPair', 'kms:Encrypt'])
  const context = {}
  if (chance(50)) context.app = pick(['payroll', 'Payroll', 'web1', ''])
  if (chance(30)) context.tenant = 'x'
  const pcrs = chance(65) ? { 0: pick(['{a}', '{b}']), 3: '{c}', ...(chance(50) ? { 8: pick(['{c}', '{d}']) } : {}) } : null
  const key = policy(true)
  const identity = chance(60) ? policy(false) : null
  const variables = { 'aws:PrincipalArn': principal, 'aws:CurrentTime': TIME }
  for (const [name, value] of Object.entries(context)) variables[`kms:EncryptionContext:${name}`] = value
  if (Object.keys(context).length) variables['kms:EncryptionContextKeys'] = Object.keys(context)
  for (const [index, value] of Object.entries(pcrs ?? {})) variables[`kms:RecipientAttestation:PCR${index}`] = value
  if (pcrs) variables['kms:RecipientAttestation:ImageSha384'] = pcrs[0]
  // The engine itself: the front end checks keys against a list that lacks those of enclaves.
  const verdict = authorize({
    request: new AwsRequestImpl(principal, { resource: KEY, accountId: ACCOUNT }, action, new RequestContextImpl(full(variables))),
    sessionPolicy: undefined,
    identityPolicies: identity ? [loadPolicy(full(identity), { name: 'identity' })] : [],
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: loadPolicy(full(key), { name: 'key' }),
    permissionBoundaries: undefined,
    vpcEndpointPolicies: undefined,
    simulationParameters: { simulationMode: 'Strict', discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([]) },
    serviceSettings: {},
  }).result
  return { verdict, principal, action, context, pcrs, key, identity }
}

for (let count = 0; count < CASES; count++) console.log(JSON.stringify(one()))
