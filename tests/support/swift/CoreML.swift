// The part of Core ML that edgeq's Swift files use, after the declarations of its documentation and
// of the headers for iOS 18: of an MLModel, nothing there says that it is Sendable; an MLState is.

import AppleHost
import CoreGraphics
import CoreVideo
import Foundation

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine
}

public class MLModelConfiguration {
    public var computeUnits = MLComputeUnits.all

    public init() {}
}

public protocol MLShapedArrayScalar {
    init(_ number: Double)
    var number: Double { get }
}

extension Float16: MLShapedArrayScalar { public var number: Double { Double(self) } }
extension Float: MLShapedArrayScalar { public var number: Double { Double(self) } }
extension Double: MLShapedArrayScalar { public var number: Double { self } }
extension Int32: MLShapedArrayScalar { public var number: Double { Double(self) } }

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public let scalars: [Scalar]
    public let shape: [Int]

    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar {
        self.scalars = Array(scalars)
        self.shape = shape
    }
}

extension MLShapedArray: Sendable where Scalar: Sendable {}

public class MLFeatureValue {
    public enum ImageOption: Hashable, Sendable {
        case cropAndScale
    }

    let numbers: Numbers?

    init(_ numbers: Numbers?) {
        self.numbers = numbers
    }

    public init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) {
        numbers = Numbers(
            scalars: shapedArray.scalars.map(\.number), shape: shapedArray.shape,
            type: "\(Scalar.self)")
    }

    public init(pixelBuffer: CVPixelBuffer) {
        numbers = nil
    }

    public init(
        cgImage: CGImage, pixelsWide: Int, pixelsHigh: Int, pixelFormatType: UInt32,
        options: [ImageOption: Any]?
    ) throws {
        numbers = nil
    }

    public var imageBufferValue: CVPixelBuffer? { nil }
    public var stringValue: String { "" }
    public var dictionaryValue: [AnyHashable: NSNumber] { [:] }

    public func shapedArrayValue<Scalar: MLShapedArrayScalar>(of type: Scalar.Type)
        -> MLShapedArray<Scalar>?
    {
        guard let numbers, numbers.type == "\(Scalar.self)" else { return nil }
        return MLShapedArray(scalars: numbers.scalars.map { Scalar($0) }, shape: numbers.shape)
    }
}

public protocol MLFeatureProvider: AnyObject {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public class MLDictionaryFeatureProvider: MLFeatureProvider {
    let values: [String: MLFeatureValue]

    public init(dictionary: [String: Any]) throws {
        values = dictionary.mapValues { $0 as! MLFeatureValue }
    }

    public var featureNames: Set<String> { Set(values.keys) }

    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}

public final class MLState: @unchecked Sendable {
    let number: Int

    init(number: Int) {
        self.number = number
    }
}

public class MLModel {
    private let number: Int

    private init(number: Int) {
        self.number = number
    }

    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel {
        let answer = try Host.shared.ask("open", ["path": url.path])
        return MLModel(number: answer["number"] as! Int)
    }

    public class func compileModel(at modelURL: URL) async throws -> URL { modelURL }

    public func makeState() -> MLState {
        let answer = try! Host.shared.ask("state", ["model": number])
        return MLState(number: answer["number"] as! Int)
    }

    public func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider {
        try run(input, [:])
    }

    public func prediction(from input: MLFeatureProvider, using state: MLState) throws
        -> MLFeatureProvider
    {
        try run(input, ["state": state.number])
    }

    private func run(_ input: MLFeatureProvider, _ more: [String: Any]) throws
        -> MLFeatureProvider
    {
        var inputs: [String: Any] = [:]
        for name in input.featureNames {
            inputs[name] = input.featureValue(for: name)?.numbers?.json
        }
        let question = more.merging(["model": number, "inputs": inputs]) { first, _ in first }
        let answer = try Host.shared.ask("run", question)
        let outputs = answer["outputs"] as! [String: Any]
        return try MLDictionaryFeatureProvider(
            dictionary: outputs.mapValues { MLFeatureValue(Numbers($0)) })
    }
}

// Objective-C's, which Foundation of Apple's systems brings along.
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result {
    try body()
}
