-- What wrk sends: a request of each client in turn, or of clients drawn at random where they are too many to be kept.
-- Its argument is a file with a line for each client, all of one length: the client's headers, with tabs between them.
-- At the end it prints one line for the bench to read.

local KEPT = 100000

local file, length, count
local requests, turn = {}, 0
local head

local function format(line)
  return head .. line:gsub("%s+$", ""):gsub("\t", "\r\n") .. "\r\n\r\n"
end

local function draw()
  file:seek("set", math.random(0, count - 1) * length)
  return format(file:read(length))
end

local function take_turn()
  turn = turn % count + 1
  return requests[turn]
end

function init(arguments)
  file = assert(io.open(arguments[1], "rb"))
  length = #file:read("*L")
  count = file:seek("end") / length
  head = "GET / HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n"
  if count > KEPT then
    math.randomseed(os.time())
    request = draw
    return
  end
  file:seek("set")
  for line in file:lines() do
    requests[#requests + 1] = format(line)
  end
  request = take_turn
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'bench {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "broken": %d, "refused": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
