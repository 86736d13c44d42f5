// What stands behind the other modules here: the process that started this one runs the models and
// tokenizers. Questions go out, answers come in, as lines of JSON.

import Foundation

public struct Refused: Error {
    public let reason: String
}

public struct Numbers {
    public let scalars: [Double]
    public let shape: [Int]
    public let type: String

    public init(scalars: [Double], shape: [Int], type: String) {
        self.scalars = scalars
        self.shape = shape
        self.type = type
    }

    public init(_ json: Any) {
        let fields = json as! [String: Any]
        scalars = (fields["scalars"] as! [NSNumber]).map(\.doubleValue)
        shape = (fields["shape"] as! [NSNumber]).map(\.intValue)
        type = fields["type"] as! String
    }

    public var json: [String: Any] {
        ["scalars": scalars, "shape": shape, "type": type]
    }
}

public final class Host: @unchecked Sendable {
    public static let shared = Host()

    private let lock = NSLock()
    public func ask(_ what: String, _ fields: [String: Any]) throws -> [String: Any] {
        lock.lock()
        defer { lock.unlock() }
        let question = fields.merging(["ask": what]) { first, _ in first }
        let line = try JSONSerialization.data(withJSONObject: question)
        print(String(decoding: line, as: UTF8.self))
        fflush(stdout)
        guard let answered = readLine() else {
            throw Refused(reason: "the process ended")
        }
        let answer = try JSONSerialization.jsonObject(with: Data(answered.utf8))
        let found = answer as! [String: Any]
        if let reason = found["refused"] as? String {
            throw Refused(reason: reason)
        }
        return found
    }
}
