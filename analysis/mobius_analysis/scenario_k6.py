"""A k6 script from production's own mix."""

from __future__ import annotations

import json
from typing import Final

from mobius_analysis.scenario_mix import Mix
from mobius_analysis.scenario_template import common_values, filled

__all__ = ["k6_script"]

_TEMPLATE: Final = """\
// Load in the proportions of users' traffic; written by `mobius-rum parity --write-k6`.
//
// Users of @SERVICE@ in @REGION@, @SINCE@ to @UNTIL@:
// @RATE@ requests a second on average, from @REQUESTS@ measured requests. No user data is in here:
// what stands in paths and bodies comes from a file of yours (MOBIUS_DATA).
//
//   k6 run -e BASE_URL=http://staging.example --out json=results.json THIS_FILE
//
// Environment: BASE_URL, DURATION (seconds, 600), MOBIUS_SCALE (1 = users' rate), MOBIUS_PROFILE=1 (the course of the
// day, within DURATION), MOBIUS_DATA (JSON, see DATA below), MOBIUS_SYNTHETIC_KEY (signs the requests as a test's),
// MOBIUS_TEST_NAME, MOBIUS_TEST_RUN, RELEASE.
import { sleep } from 'k6';
import crypto from 'k6/crypto';
import exec from 'k6/execution';
import http from 'k6/http';

// Method, route and requests a second of users.
const ENDPOINTS = [
@ENDPOINTS@
];
// Factors of the mean rate by hour of the day (UTC); null is not known.
const HOURS = @HOURS@;

const DURATION = Number(__ENV.DURATION || 600);
const SCALE = Number(__ENV.MOBIUS_SCALE || 1);
const TEST = __ENV.MOBIUS_TEST_NAME || @TEST@;

// What fills the requests: values of path parameters, and alternatives for what goes with an endpoint
// ("body": an object is sent as JSON; "params": headers and the like; "query": an object).
const DATA = { parameters: {@PARAMETERS@}, requests: {} };
if (__ENV.MOBIUS_DATA) {
  const own = JSON.parse(open(__ENV.MOBIUS_DATA));
  Object.assign(DATA.parameters, own.parameters);
  Object.assign(DATA.requests, own.requests);
}

// k6 sends at a steady pace and users do not: each request waits a random part of ten intervals first, at most 5 s,
// so that arrivals are nearly independent of each other (Poisson).
const jitter = (rate) => Math.min(5, 10 / rate);

// Rates are whole numbers of requests an hour.
const perHour = (rate, factor) => Math.max(1, Math.round(rate * SCALE * 3600 * factor));

function scenario([method, route, rate], index) {
  const busy = Math.max(2, Math.ceil(rate * SCALE * (jitter(rate * SCALE) + 1)));
  const common = {
    exec: 'request',
    env: { MOBIUS_ENDPOINT: String(index) },
    timeUnit: '1h',
    preAllocatedVUs: busy,
    maxVUs: 10 * busy,
    gracefulStop: '10s',
  };
  if (!__ENV.MOBIUS_PROFILE) {
    return { ...common, executor: 'constant-arrival-rate', rate: perHour(rate, 1), duration: `${DURATION}s` };
  }
  const factors = HOURS.map((factor) => (factor === null ? 1 : factor));
  return {
    ...common,
    executor: 'ramping-arrival-rate',
    startRate: perHour(rate, factors[0]),
    stages: factors.map((factor) => ({
      target: perHour(rate, factor),
      duration: `${Math.max(1, Math.round(DURATION / 24))}s`,
    })),
  };
}

export const options = {
  scenarios: Object.fromEntries(ENDPOINTS.map((one, index) => [`endpoint_${index}`, scenario(one, index)])),
  tags: __ENV.RELEASE ? { release: __ENV.RELEASE } : {},
};

export function setup() {
  if (!__ENV.MOBIUS_SYNTHETIC_KEY) {
    console.warn("no MOBIUS_SYNTHETIC_KEY: services cannot tell this test's requests from users'");
  }
  const random = hex(crypto.randomBytes(3));
  return { run: __ENV.MOBIUS_TEST_RUN || `k6-${Math.floor(Date.now() / 1000)}-${random}` };
}

const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
const pick = (values) => values[Math.floor(Math.random() * values.length)];

let token = '';
let renewAt = 0;

// The marker of mobius_instrumentation.marker: HMAC-SHA256 over run, test and expiry.
function baggage(run) {
  const now = Date.now() / 1000;
  if (now >= renewAt) {
    const body = `v1.${run}.${TEST}.${Math.floor(now + 3600)}`;
    token = `${body}.${crypto.hmac('sha256', __ENV.MOBIUS_SYNTHETIC_KEY, body, 'hex')}`;
    renewAt = now + 1800;
  }
  return `mobius-synthetic=${token}`;
}

export function request({ run }) {
  const [method, route, rate] = ENDPOINTS[Number(__ENV.MOBIUS_ENDPOINT)];
  sleep(Math.random() * jitter(rate * SCALE));
  const own = pick(DATA.requests[`${method} ${route}`] || [{}]);
  const path = route.replace(/\\{(\\w+)\\}/g, (_, name) => encodeURIComponent(pick(DATA.parameters[name])));
  const query = Object.entries(own.query || {}).map((pair) => pair.map(encodeURIComponent).join('='));
  const trace = hex(crypto.randomBytes(16));
  // In the JSON output, which joins each request with its spans.
  exec.vu.metrics.metadata.trace_id = trace;
  const headers = { traceparent: `00-${trace}-${hex(crypto.randomBytes(8))}-01` };
  if (__ENV.MOBIUS_SYNTHETIC_KEY) headers.baggage = baggage(run);
  let body = own.body === undefined ? null : own.body;
  if (body !== null && typeof body === 'object') {
    body = JSON.stringify(body);
    headers['Content-Type'] = 'application/json';
  }
  const params = own.params || {};
  http.request(method, `${__ENV.BASE_URL}${path}${query.length ? `?${query.join('&')}` : ''}`, body, {
    ...params,
    headers: { ...headers, ...params.headers },
    tags: { name: route },
  });
}
"""


def k6_script(mix: Mix, *, test: str) -> str:
    """Write the k6 script of a mix; ``test`` is the name its results will bear."""
    values = {
        **common_values(mix, test),
        "ENDPOINTS": "\n".join(
            f"  [{json.dumps(one.method)}, {json.dumps(one.route)}, {one.rate:.6g}],"
            for one in mix.endpoints
        ),
        "HOURS": json.dumps(mix.hours),
    }
    return filled(_TEMPLATE, values)
