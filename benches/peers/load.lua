-- What wrk sends, and what it reports. Started by `run` as: wrk ... -s load.lua URL -- WORKLOAD [ID]
--
-- The path of URL is the collection of sessions (/v1/sessions here, /sessions at the peer), so that one script loads both.

local SESSIONS = 1000

local body = '{"role":"user","content":"' .. string.rep("a message of the usual length ", 4) .. '"}'

local function append_to(base, id)
  return wrk.format("POST", base .. "/" .. id .. "/messages", { ["Content-Type"] = "application/json" }, body)
end

-- Each returns what `request` is to be: a fixed string, or a function that makes the next one.
local workloads = {
  livez = function() return wrk.format("GET", "/livez") end,

  hot = function(base) return append_to(base, "hot") end,

  page = function(base) return wrk.format("GET", base .. "/page/messages?limit=25") end,

  -- Round robin with a stride, so that neighbours in time are not neighbours in name. All requests are made beforehand.
  many = function(base)
    local prepared, at = {}, 0
    for i = 0, SESSIONS - 1 do prepared[i] = append_to(base, "s" .. i) end
    return function()
      at = (at + 619) % SESSIONS
      return prepared[at]
    end
  end,

  -- Every request names a session that nobody has named before: `id` differs from run to run.
  new = function(base, id)
    local made = 0
    return function()
      made = made + 1
      return append_to(base, id .. made)
    end
  end,
}

function init(args)
  local next_request = workloads[args[1]](wrk.path, args[2])
  if type(next_request) == "function" then
    request = next_request
  else
    request = function() return next_request end
  end
end

-- The last line of the output, for `run`. wrk counts every status above 399 as an error of kind `status`.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,'
      .. '"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
