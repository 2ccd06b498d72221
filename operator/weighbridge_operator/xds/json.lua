-- Reading a request's JSON: where its model's name stands, and whether it wants a stream.
--
-- Why Lua and not json_to_metadata: that filter keeps the last of two equal keys where a node may keep the first, builds the
-- whole document in memory, and costs 28 us a request; this reading costs 5 (docs/architecture.md). What passes here is JSON
-- by RFC 8259 in UTF-8, nested at most 100 deep, with no key of the outermost object twice, `model` a string, `stream` a
-- boolean, and neither of them in other letters (`Model`), which some readers take for the same. Long strings are skipped by
-- string.find, which is C.

local DEPTH = 100
local QUOTE, BACKSLASH, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST, COMMA, COLON = 34, 92, 123, 125, 91, 93, 44, 58
local byte, find, match, sub, gsub = string.byte, string.find, string.match, string.sub, string.gsub
local band, bnot, rshift = bit.band, bit.bnot, bit.rshift
local cast, WORDS = require("ffi").cast, require("ffi").typeof("const uint64_t *")
-- What the reading waits for next.
local VALUE, VALUE_OR_END, KEY, KEY_OR_END, SEPARATOR = 1, 2, 3, 4, 5

local NEVER = math.huge

-- A request leaves some 4 KB behind, and a collection costs 100 us or more: half as often does. No body outlives its
-- request's turn, so that at most four of them wait for collection at once.
collectgarbage("setpause", 400)

-- The quote that ends the string which begins at `at`, and the next backslash behind it; nil where the string is not valid.
-- `slash` is the next backslash from `at` on: carried along, each is searched for once.
local function string_end(text, at, slash)
  local close = find(text, '"', at, true)
  while close and slash < close do
    local c, next = byte(text, slash + 1), slash + 2
    if c == 117 then
      if not find(text, "^%x%x%x%x", next) then return nil end
      next = slash + 6
    elseif c ~= QUOTE and c ~= BACKSLASH and c ~= 47 and c ~= 98 and c ~= 102 and c ~= 110 and c ~= 114 and c ~= 116 then
      return nil
    end
    if close < next then close = find(text, '"', next, true) end
    slash = find(text, "\\", next, true) or NEVER
  end
  return close, slash
end

-- Digits from `at` on: the place behind them, or nil where there is none.
local function digits_end(text, at)
  local c, first = byte(text, at), at
  while c and c >= 48 and c <= 57 do at = at + 1; c = byte(text, at) end
  return at > first and at or nil
end

-- The last position of the number, true, false or null that begins at `at`, or nil.
local function plain_end(text, at, c)
  if c == 116 then return sub(text, at, at + 3) == "true" and at + 3 or nil end
  if c == 102 then return sub(text, at, at + 4) == "false" and at + 4 or nil end
  if c == 110 then return sub(text, at, at + 3) == "null" and at + 3 or nil end
  if c == 45 then at = at + 1 end
  local zero = byte(text, at) == 48
  local next = digits_end(text, at)
  if not next or zero and next > at + 1 then return nil end
  if byte(text, next) == 46 then next = digits_end(text, next + 1) end
  if not next then return nil end
  c = byte(text, next)
  if c == 101 or c == 69 then
    c = byte(text, next + 1)
    next = digits_end(text, (c == 43 or c == 45) and next + 2 or next + 1)
  end
  return next and next - 1
end

-- Whether the text is UTF-8, and whether a control character stands in it. Eight bytes at a time while they are plain
-- ASCII; what is not is looked at byte by byte. Loops over numbers: they compile.
local function survey_bytes(text)
  local words, length, controls = cast(WORDS, text), #text, false
  local word, whole = 0, rshift(length, 3)
  while word < whole do
    local w = words[word]
    if band(w, 0x8080808080808080ULL) ~= 0 then break end
    if band(w - 0x2020202020202020ULL, bnot(w), 0x8080808080808080ULL) ~= 0 then controls = true end
    word = word + 1
  end
  local at = word * 8 + 1
  while at <= length do
    local c = byte(text, at)
    if c < 32 then
      controls = true
    elseif c > 127 then
      local d, more = byte(text, at + 1) or 0, nil
      if c >= 194 and c <= 223 then more = 1
      elseif c == 224 and d >= 160 or c == 237 and d < 160 or c >= 225 and c <= 239 and c ~= 237 then more = 2
      elseif c == 240 and d >= 144 or c == 244 and d < 144 or c >= 241 and c <= 243 then more = 3
      else return false end
      for i = at + 1, at + more do
        local e = byte(text, i) or 0
        if e < 128 or e > 191 then return false end
      end
      at = at + more
    end
    at = at + 1
  end
  return true, controls
end

-- The single class is quick; it also takes DEL, which JSON allows, so that a hit is looked at again.
local function has_control(text, first, last)
  return match(text, "^%C*()", first) < last and find(sub(text, first, last), "[%z\1-\31]") ~= nil
end

-- What a request asks for, filled anew for each: a table of its own would be garbage, and so would those below.
local asked = { stream = false, odd_stream = true, names_model = true, first = 0, last = 0 }

-- Whether each open bracket is an object's, by its depth.
local kinds = {}

-- The outermost keys of late, with the number of the request that had them last. The table keeps their strings from
-- being made again; it begins anew before what callers invent fills it.
local KEYS, LONGEST = 1000, 64
local seen, known, turn = {}, 0, 0

local function begin()
  asked.stream, asked.odd_stream, asked.names_model, asked.first, asked.last = false, nil, nil, nil, nil
  if known > KEYS then seen, known = {}, 0 end
  turn = turn + 1
end

-- Whether readers that ignore case, as Go's do, take a name for one that the gateway acts on. They also take the long s
-- (U+017F) for an s.
local function is_alias(name)
  if #name > 12 then return false end
  local folded = string.lower(gsub(name, "\197\191", "s"))
  return (folded == "model" or folded == "stream") and folded ~= name
end

-- What is wrong with a key of the outermost object, if anything. A key that was seen of late is right but for its turn.
local function judge_key(key)
  local before = seen[key]
  if before == turn then return "twice" end
  if not before then
    if is_alias(key) then return "alias" end
    known = #key > LONGEST and NEVER or known + 1
  end
  seen[key] = turn
end

-- Notes a value of the outermost object that the gateway acts on.
local function note(key, text, first, last, c)
  if key == "model" then
    asked.names_model = true
    if c == QUOTE then asked.first, asked.last = first, last end
  elseif key == "stream" then
    asked.stream = c == 116
    asked.odd_stream = c ~= 116 and c ~= 102 and c ~= 110 -- null is OpenAI's way to say: as by default
  end
end

-- Reads the whole text. Returns what is asked for, until the next is read, or nil, what is wrong, and the key it is about.
function read_request(text)
  begin()
  local key
  local at, depth, wait, slash = 1, 0, VALUE, find(text, "\\", 1, true) or NEVER
  local is_utf8, controls = survey_bytes(text)
  if not is_utf8 then return nil, "invalid" end
  while true do
    local c = byte(text, at)
    while c == 32 or c == 10 or c == 13 or c == 9 do at = at + 1; c = byte(text, at) end
    local last
    if wait == SEPARATOR then
      if depth == 0 then break end
      if c == COMMA then wait = kinds[depth] and KEY or VALUE
      elseif c == (kinds[depth] and CLOSE or CLOSE_LIST) then depth = depth - 1
      else return nil, "invalid" end
      last = at
    elseif c == CLOSE and wait == KEY_OR_END or c == CLOSE_LIST and wait == VALUE_OR_END then
      depth, wait, last = depth - 1, SEPARATOR, at
    elseif wait == KEY or wait == KEY_OR_END then
      if c ~= QUOTE then return nil, "invalid" end
      local first_slash = slash
      last, slash = string_end(text, at + 1, slash)
      if not last or controls and has_control(text, at, last) then return nil, "invalid" end
      if depth == 1 then
        key = sub(text, at + 1, last - 1)
        if first_slash < last then return nil, "escaped", key end
        local wrong = judge_key(key)
        if wrong then return nil, wrong, key end
      end
      last = last + 1
      c = byte(text, last)
      while c == 32 or c == 10 or c == 13 or c == 9 do last = last + 1; c = byte(text, last) end
      if c ~= COLON then return nil, "invalid" end
      wait = VALUE
    elseif c == OPEN or c == OPEN_LIST then
      if depth == 0 and c == OPEN_LIST then return nil, "invalid" end
      if depth == DEPTH then return nil, "deep" end
      if depth == 1 then note(key, text, at, at, c) end
      depth = depth + 1
      kinds[depth] = c == OPEN
      wait, last = c == OPEN and KEY_OR_END or VALUE_OR_END, at
    else
      if not c or depth == 0 then return nil, "invalid" end
      if c == QUOTE then
        last, slash = string_end(text, at + 1, slash)
        if last and controls and has_control(text, at, last) then last = nil end
      else
        last = plain_end(text, at, c)
      end
      if not last then return nil, "invalid" end
      if depth == 1 then note(key, text, at, last, c) end
      wait = SEPARATOR
    end
    at = last + 1
  end
  if at <= #text then return nil, "invalid" end
  return asked
end
