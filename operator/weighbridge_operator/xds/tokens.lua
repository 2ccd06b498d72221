-- What an answer says of its tokens, for the request log. Its parts pass as they come and none is kept but the first and
-- last bytes, where servers say it, so that an answer may have any size and reaches the caller as without this.
--
-- Only numbers of an object `usage` (OpenAI, Anthropic) or `usageMetadata` (Gemini) are taken that stands where the APIs put
-- it: in the outermost object, in an event of a stream also one deeper (`response`, `message`). What a prompt makes a model
-- say stands in strings or deeper, and is nothing.

local START, END = 4096, 8192 -- bytes that are looked at
local MOST = 64 -- places of the name that are, from the last on
local byte, concat, find, gsub, match, sub = string.byte, table.concat, string.find, string.gsub, string.match, string.sub
local max, min = math.max, math.min
-- What closes behind the usage, up to the end: of a whole answer, which may be a list (Gemini), and of an event.
local WHOLE, EVENT = { ["}"] = true, ["}]"] = true }, { ["}"] = true, ["}}"] = true }

-- Where the string that begins at `at` ends.
local function string_end(text, at)
  while true do
    at = find(text, '["\\]', at + 1)
    if not at or byte(text, at) == 34 then return at end
    at = at + 1
  end
end

-- How many brackets from `at` to `last` are left open, and which close what was opened before `at`; three are enough.
local function walk(text, at, last)
  local open, closed = 0, ""
  while #closed < 3 do
    at = find(text, '["{}%[%]]', at)
    if not at or at > last then break end
    local c = byte(text, at)
    if c == 34 then
      at = string_end(text, at)
      if not at then return open, "?" end
    elseif c == 123 or c == 91 then open = open + 1
    elseif open > 0 then open = open - 1
    else closed = closed .. sub(text, at, at)
    end
    at = at + 1
  end
  return open, closed
end

local function number(object, name)
  local digits = match(object, '"' .. name .. '"%s*:%s*(%d+)%s*,')
  return digits and #digits < 16 and tonumber(digits) or nil
end

-- Puts the tokens that one object tells into `told`, where a later one has not.
local function take(told, object)
  -- Details, which have numbers of the same names, are left out.
  object = gsub(gsub(sub(object, 2, -2), "%b{}", "0"), "%b[]", "0") .. ","
  told.tokens_in = told.tokens_in or number(object, "prompt_tokens") or number(object, "input_tokens")
    or number(object, "promptTokenCount")
  local out = number(object, "completion_tokens") or number(object, "output_tokens")
  local answer, thoughts = number(object, "candidatesTokenCount"), number(object, "thoughtsTokenCount")
  if not out and (answer or thoughts) then out = (answer or 0) + (thoughts or 0) end
  told.tokens_out = told.tokens_out or out
end

-- Whether what stands from `first` to `last` is where the APIs put it. `stream`: the text consists of events; `cut`: it is
-- a whole answer's beginning.
local function in_place(text, first, last, stream, cut)
  if cut then
    local open, closed = walk(text, 1, first - 1)
    return open == 1 and closed == "" and find(text, "^%s*{")
  end
  local _, closed = walk(text, last + 1, stream and find(text, "\n", last, true) or #text)
  return stream and EVENT[closed] or not stream and WHOLE[closed]
end

-- All that a piece of an answer tells. Of equal numbers the last are right: servers count as they go.
local function read_usage(told, text, stream, cut)
  local places, at = {}, find(text, '"usage', 1, true)
  while at do
    places[#places + 1] = at
    at = find(text, '"usage', at + 6, true)
  end
  for index = #places, max(1, #places - MOST + 1), -1 do
    if told.tokens_in and told.tokens_out then return end
    local first = places[index]
    local name, object, after = match(text, '^"usage(%a*)"%s*:%s*(%b{})()', first)
    local known = name == "" or name == "Metadata"
    if known and in_place(text, first, after - 1, stream, cut) then take(told, object) end
  end
end

-- The first and the last bytes of an answer, the first only where the last are not all.
local function read_ends(handle)
  local start, pieces, size, total = nil, {}, 0, 0
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    local kept = min(length, END)
    if length > kept and not start then start = sub(concat(pieces) .. chunk:getBytes(0, START), 1, START) end
    pieces[#pieces + 1] = kept > 0 and chunk:getBytes(length - kept, kept) or nil
    size, total = size + kept, total + length
    if size > 2 * END then
      local text = concat(pieces)
      start, pieces, size = start or sub(text, 1, START), { sub(text, -END) }, END
    end
  end
  local text = concat(pieces)
  if total <= END then return nil, text end
  return start or sub(text, 1, START), sub(text, -END)
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local kind = match(headers:get("content-type") or "", "^[%w/-]*")
  local stream = kind == "text/event-stream"
  if not stream and kind ~= "application/json" then return end
  if (headers:get("content-encoding") or "identity") ~= "identity" then return end
  local start, text = read_ends(handle)
  local told = {}
  read_usage(told, text, stream, false)
  if start then read_usage(told, start, stream, not stream) end
  if next(told) then handle:streamInfo():dynamicMetadata():set("weighbridge.asked", "answer", told) end
end
