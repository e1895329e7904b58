-- wrk: PUTs of 4 KiB, no two alike.
local counter = 0
local thread_id = 0
local padding = string.rep("x", 4096 - 32)

function setup(thread)
	thread:set("thread_id", thread_id)
	thread_id = thread_id + 1
end

function request()
	counter = counter + 1
	local head = string.format("%015d-%015d-", thread_id, counter)
	return wrk.format("PUT", "/files/small.bin", {["Content-Type"] = "application/octet-stream"}, head .. padding)
end
