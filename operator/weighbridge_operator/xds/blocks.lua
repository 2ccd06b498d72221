-- Says with which bytes a request's prompt begins, and to which conversation it belongs: for routes that choose a node for
-- each request, and run by them alone.
--
-- Where a node has just read the beginning of a prompt, it need not read it again. "x-weighbridge-blocks" holds a hash for
-- each whole block from the prompt on, of all bytes up to the block's end, at most 64, joined by "."; they end after 128,
-- 256 and 512 bytes, where many a first question of a conversation has its end, and after each 1,024. It is
-- written where there is none, too: the data plane is asked for requests that have it (precise.py). Two
-- bodies share as many hashes as blocks of their prompts' beginning. The hash is HalfSipHash-1-3: additions, rotations and
-- exclusive ors of 32 bits, which LuaJIT compiles, and nobody without the key can make two beginnings meet. The route says
-- which key, the same to every Envoy, so that their data planes can tell each other what begins how. Where it says none, it
-- is one that the kernel draws for this process: the same in every worker, it leaves it nowhere.

local ffi, bit = require("ffi"), require("bit")
local bxor, rol, tobit, tohex = bit.bxor, bit.rol, bit.tobit, bit.tohex
local find, match, sub = string.find, string.match, string.sub
local WORDS = ffi.typeof("const int32_t *")
local BLOCK, MOST = 1024, 64
local SPAN = BLOCK * MOST
local ENDS = { 128, 256, 512 }
for number = 1, MOST - #ENDS do ENDS[#ENDS + 1] = BLOCK * number end

-- As in entrance.lua: no body outlives its request's turn.
collectgarbage("setpause", 400)

local function round(v0, v1, v2, v3)
  v0, v2 = tobit(v0 + v1), tobit(v2 + v3)
  v1, v3 = bxor(rol(v1, 5), v0), bxor(rol(v3, 8), v2)
  v0 = tobit(rol(v0, 16) + v3)
  v2 = tobit(v2 + v1)
  return v0, bxor(rol(v1, 13), v2), rol(v2, 16), bxor(rol(v3, 7), v0)
end

-- The state with which hashing begins.
local function begin(k0, k1)
  return k0, k1, bxor(0x6c796765, k0), bxor(0x74656462, k1)
end

-- Takes in the words from `first` to `last`, four bytes each.
local function absorb(words, first, last, v0, v1, v2, v3)
  for at = first, last do
    local m = words[at]
    v0, v1, v2, v3 = round(v0, v1, v2, bxor(v3, m))
    v0 = bxor(v0, m)
  end
  return v0, v1, v2, v3
end

-- Closes what was taken in with `mark`: 32 bits, and as many again.
local function finish(mark, v0, v1, v2, v3)
  v0, v1, v2, v3 = round(v0, v1, v2, bxor(v3, mark))
  v0, v2 = bxor(v0, mark), bxor(v2, 0xff)
  for _ = 1, 3 do v0, v1, v2, v3 = round(v0, v1, v2, v3) end
  local hash = bxor(v1, v3)
  v1 = bxor(v1, 0xdd)
  for _ = 1, 3 do v0, v1, v2, v3 = round(v0, v1, v2, v3) end
  return hash, bxor(v1, v3)
end

-- The hashes of a text's beginning, or nothing where it is shorter than a block. `k0` and `k1` are the key.
function hash_blocks(text, k0, k1)
  if #text < ENDS[1] then return end
  local words, hashes, first = ffi.cast(WORDS, text), {}, 0
  local v0, v1, v2, v3 = begin(k0, k1)
  for number = 1, MOST do
    local behind = ENDS[number] / 4
    if behind * 4 > #text then break end
    v0, v1, v2, v3 = absorb(words, first, behind - 1, v0, v1, v2, v3)
    hashes[number], first = tohex((finish(number, v0, v1, v2, v3))), behind
  end
  return table.concat(hashes, ".")
end

-- Where in a body of JSON the prompt begins: what stands before it, a length or a trace's id, may differ from turn to turn.
-- Only the first block is searched: there it is, or before it stands more than a few settings.
local PROMPT = { '"messages"', '"system"', '"tools"', '"prompt"', '"input"', '"instructions"', '"contents"' }
function find_prompt(text)
  local head, first = sub(text, 1, BLOCK), nil
  for _, name in ipairs(PROMPT) do
    local at = find(head, name, 1, true)
    if at and (not first or at < first) then first = at end
  end
  return first or 1
end

-- A name that may be long, strange, or a person's, as 16 hexadecimal digits: the same in every Envoy, so that data planes
-- which share no memory send a conversation to the same node.
function hash_name(name)
  local padded = sub(name, 1, BLOCK) .. "\1\0\0\0"
  local last = math.floor(#padded / 4) - 1
  local v0, v1, v2, v3 = begin(0, 0)
  local first, second = finish(#name, absorb(ffi.cast(WORDS, padded), 0, last, v0, v1, v2, v3))
  return tohex(first) .. tohex(second)
end

-- The value of a quoted key, where it is a string without a backslash. Inside of a string of JSON every quote has a
-- backslash before it, so that what is found is a key, if one of an inner object: that is the caller's affair.
function find_string(text, key)
  local from = 1
  while true do
    local first, last = find(text, key, from, true)
    if not first then return end
    from = last + 1
    local value = match(text, '^%s*:%s*"([^"\\]*)"', from)
    if value and value ~= "" and sub(text, first - 1, first - 1) ~= "\\" then return value end
  end
end

-- The key, of 16 random bytes that Linux gives to each process. Elsewhere it is no secret, which is bearable: whoever
-- makes two beginnings meet gains a node that has to read his prompt after all.
local function draw_key()
  local drawn, address = pcall(function()
    ffi.cdef("unsigned long getauxval(unsigned long type);")
    return ffi.C.getauxval(25)
  end)
  if not drawn or address == 0 then return 0, 0 end
  local words = ffi.cast(WORDS, address)
  return finish(16, absorb(words, 0, 3, begin(0, 0)))
end

local K0, K1 = draw_key()

local function pick_key(handle)
  local told = handle:filterContext()
  local k0, k1 = told:get("k0"), told:get("k1")
  if k0 and k1 then return k0, k1 end
  return K0, K1
end

-- The conversation: as the header says, else as the body does in its first or last 64 KiB, else whose it is. Callers with
-- keys of their own have conversations of their own.
local KEYS = { '"prompt_cache_key"', '"user"' }
local function name_session(body, size, start, named, caller)
  local name, rest = named, nil
  for _, key in ipairs(KEYS) do
    name = name or find_string(start, key)
    if not name and size > SPAN then
      local length = math.min(SPAN, size - SPAN)
      rest = rest or body:getBytes(size - length, length)
      name = find_string(rest, key)
    end
  end
  if name and name ~= "" then return hash_name((caller or "") .. "\n" .. name) end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local named, caller = headers:get("x-session-id"), headers:get("x-weighbridge-client")
  local body = handle:body()
  if not body then return headers:add("x-weighbridge-blocks", "") end
  local size = body:length()
  local start = body:getBytes(0, math.min(size, SPAN + BLOCK))
  local blocks = hash_blocks(sub(start, find_prompt(start)), pick_key(handle))
  local session = name_session(body, size, start, named, caller)
  headers = handle:headers()
  headers:add("x-weighbridge-blocks", blocks or "")
  if session then headers:add("x-weighbridge-session", session) end
end
